"""style.py: what a reader needs is on the page, and no line hides behind another's colour."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from ticgrpo_theory.plots import style

WORLDS = {"one": "first world", "two": "second world"}
ESTIMATORS = {"exact": "exact (trajectory)", "linear": "linear (token)"}


def table(scale: float = 0.5, error: float = 0.25) -> pd.DataFrame:
    """Errors 0 and error * eta * k against the current gradient, the other way round against the old one."""
    made = []
    for world in WORLDS:
        for eta in (0.125, 1.0):
            for k in range(5):
                for name, current, old in (("exact", 0.0, error), ("linear", error, 0.0)):
                    row = {"world": world, "estimator": name, "eta": eta, "k": k, "scale": scale}
                    row |= {"bias_current_scaled": current * eta * k, "bias_old_scaled": old * eta * k}
                    made.append(row)
    return pd.DataFrame(made)


def lines(ax, label: str) -> list:
    return [line for line in ax.get_lines() if line.get_label().strip("_") == label]


def test_every_axis_has_a_formula_with_units_and_every_estimator_one_entry_in_the_legend():
    figure = style.bias_vs_K(table(), WORLDS, ESTIMATORS)
    top, bottom = figure.axes[:2], figure.axes[2:]
    assert [ax.get_title() for ax in top] == list(WORLDS.values())
    for ax in bottom:
        assert r"\eta" in ax.get_xlabel() and "[logit$^2$ / reward]" in ax.get_xlabel()
    for ax, symbol in ((top[0], r"\theta_k"), (bottom[0], r"\theta_{\rm old}")):
        assert symbol in ax.get_ylabel() and "[reward / logit]" in ax.get_ylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(ESTIMATORS.values())
    assert r"O(\eta K)" in figure.get_suptitle()


def test_the_drawn_numbers_are_error_and_step_in_units_of_the_gradient():
    figure = style.bias_vs_K(table(scale=-0.5), WORLDS, ESTIMATORS)
    small, large = lines(figure.axes[0], ESTIMATORS["linear"])
    k = np.arange(1, 5)
    assert small.get_xdata() == pytest.approx(0.5 * 0.125 * k) and large.get_xdata() == pytest.approx(0.5 * k)
    assert small.get_ydata() == pytest.approx(0.25 * 0.125 * k / 0.5)


def test_zero_lies_at_the_foot_of_the_axis_and_says_so():
    figure = style.bias_vs_K(table(), WORLDS, ESTIMATORS)
    ax = figure.axes[0]
    (foot,) = {y for line in lines(ax, ESTIMATORS["exact"]) for y in line.get_ydata()}
    labels = [ax.yaxis.get_major_formatter()(tick, i) for i, tick in enumerate(ax.get_yticks())]
    assert labels[0] == "0" and ax.get_yticks()[0] == pytest.approx(foot)
    assert min(lines(ax, ESTIMATORS["linear"])[0].get_ydata()) > foot


def test_a_result_without_any_error_can_be_drawn():
    figure = style.bias_vs_K(table(error=0.0), WORLDS, ESTIMATORS)
    assert not [line for ax in figure.axes for line in ax.get_lines() if line.get_color() == "0.6"]
    # With an error there is the line of slope one to compare with.
    drawn = style.bias_vs_K(table(), WORLDS, ESTIMATORS).axes[0].get_lines()
    (guide,) = [line for line in drawn if line.get_color() == "0.6"]
    assert np.ptp(np.log(guide.get_ydata()) - np.log(guide.get_xdata())) == pytest.approx(0, abs=1e-9)


def test_lines_differ_in_dashes_and_marker_and_not_in_colour_alone():
    looks = style.line_of([str(i) for i in range(7)]).values()
    for part in ("color", "linestyle", "marker"):
        assert len({str(look[part]) for look in looks}) == 7
    assert max(min(to_rgb(look["color"])) for look in looks) < 0.7


def test_equal_figures_are_equal_pictures():
    first, second = (style.picture(style.bias_vs_K(table(), WORLDS, ESTIMATORS)) for _ in range(2))
    assert first == second and b"Software" not in first
    assert style.picture(style.bias_vs_K(table(error=0.5), WORLDS, ESTIMATORS)) != first
