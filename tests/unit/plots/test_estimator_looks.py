"""An estimator has one colour, one marker and one dash, in whatever figure it is drawn.

Each figure that draws estimators is drawn from results/ with colours of the table that nothing else has: what
is coloured otherwise, or has another's marker, does not come from the table.
"""

import ast
import functools
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import figures
from ticgrpo_theory.estimators.catalogue import FIRST
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.plots import style

ROOT = Path(__file__).parents[3]

TIC = {"tic_grpo", "tic_grpo_eq11"}
DRAWN: dict[str, set[str]] = {
    "ablation_no_is": {"grpo", "token", "no_is", "stale"},
    "authors_logs": {
        *("no_is", "seq_grpo", "seq_clip", "sen_clip2", "sen_clip2_only_upper"),
        *("dapo", "grpo", "gspo"),
    },
    "bias_vs_K": {"grpo", "gspo", "stale", "prefix_is", "tic_grpo", "trajectory_is"},
    "bias_vs_drift": {"stale", "rloo", "token", "geometric_mean", "prefix_is", "trajectory_is"},
    "clip_effect": {"trajectory", "trajectory_two_sided", "tic_grpo_eq11"},
    "convergence_G": {"stale", "grpo", *TIC},
    "convergence_eta_K": {"stale", "grpo", *TIC},
    "length_bias": {"grpo", "dapo", "dr_grpo", *TIC},
    "length_floor": {"grpo", "dapo", *TIC},
    "llm_demo": {"grpo", "stale", "tic_grpo"},
    "prompt_floor": {"grpo", "dr_grpo"},
    "qwen_bias_vs_K": {"grpo", "gspo", "no_is", "stale", "tic_grpo", "trajectory_is"},
    "reuse_bias": {"trajectory", "token", "stale", "grpo"},
    "stability": {"stale", "no_is", "grpo", "tic_grpo"},
    "theorem_bounds": {"stale", "grpo", *TIC},
    "tic_vs_grpo": {"grpo", *TIC, "tic_grpo_released", "seq_clip", "trajectory", "token"},
    "variance_vs_T": {"trajectory", "token"},
    "who_wins": {"grpo", "tic_grpo"},
}
"""The estimators of every figure, as the table names them."""

OTHERS = {
    "batch_normalisers": "normalisers",
    "bias_vs_G": "worlds",
    "decomposition_terms": "terms",
    "filters": "filters",
    "kl_estimators": "penalties",
    "missing_gap_term": "numbers of outer steps",
    "prompt_std_bias": "values of delta",
    "ratio_noise": "precisions",
    "sampler_mismatch": "corrections",
    "questions": "readings",
    "zoo": "lines of the catalogue",
}
"""Figures that draw no estimators, and what their lines are."""

PUBLISHED = {"dapo", "grpo", "gspo"}, {"no_is", "seq_grpo", "seq_clip", "sen_clip2", "sen_clip2_only_upper"}
"""`authors_logs` draws those of the two models in panels of their own."""

OWN_MARKS = {"x", "None", "none", "", "|", "_"}
"""Marks that say no estimator: none, the ends of error bars, and a cross of black."""


def panels() -> list[set[str]]:
    return [*PUBLISHED, *(names for name, names in DRAWN.items() if name != "authors_logs")]


def test_every_estimator_of_the_catalogue_has_a_look_and_no_two_a_marker():
    assert set(FIRST) <= set(style.ESTIMATOR_LOOKS)
    markers = [str(marker) for _, _, marker in style.ESTIMATOR_LOOKS.values()]
    assert len(set(markers)) == len(markers)


@pytest.mark.parametrize("names", panels(), ids=lambda names: "-".join(sorted(names)))
def test_what_one_figure_draws_differs_in_colour_dashes_and_marker(names):
    for part in ("color", "linestyle", "marker"):
        assert len({str(look[part]) for look in style.looks_of(names).values()}) == len(names), part


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SEEN_WITHOUT = {
    "protan": "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998",
    "deutan": "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881",
    "tritan": "1.255528 -0.076749 -0.178779 -0.078411 0.930809 0.147602 0.004733 0.691367 0.303900",
}
LEAST_DIFFERENCE = 15.0
"""In CIELAB: seven times what the eye just tells apart."""


def lab(color: str, matrix: object) -> np.ndarray:
    """CIELAB of a colour as it is seen through `matrix`."""
    part = np.array(to_rgb(color))
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    x = to_xyz @ np.clip(np.array(matrix) @ linear, 0, 1) / np.array([0.9505, 1.0, 1.0888])
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one: str, other: str) -> float:
    """The least difference, for eyes that see all colours and for those that lack one kind of cone."""
    seen = [np.eye(3), *(np.array(m.split(), dtype=float).reshape(3, 3) for m in SEEN_WITHOUT.values())]
    return min(float(np.linalg.norm(lab(one, matrix) - lab(other, matrix))) for matrix in seen)


def test_the_colours_of_one_figure_are_told_apart_by_the_colour_blind():
    for names in panels():
        for one, other in combinations(sorted(names), 2):
            colors = style.ESTIMATOR_LOOKS[one][0], style.ESTIMATOR_LOOKS[other][0]
            assert difference(*colors) > LEAST_DIFFERENCE, (one, other)
    # Red and green of equal lightness are not.
    assert difference("#D04040", "#707030") < LEAST_DIFFERENCE


def test_a_name_without_an_entry_takes_a_look_that_nothing_else_has():
    looks = style.looks_of(["mine", "grpo", "yours"])
    assert looks["grpo"] == style.looks_of(["grpo"])["grpo"] and list(looks) == ["mine", "grpo", "yours"]
    for part in ("color", "linestyle", "marker"):
        assert len({str(look[part]) for look in looks.values()}) == 3
    with pytest.raises(ValueError, match=r"12 estimators in one figure, .* draw fewer"):
        style.looks_of([f"mine {i}" for i in range(12)])


def test_only_the_table_chooses_colours():
    """No file of plots/ but style.py has a colour, but for greys and for lines that are no estimators."""
    free = {
        "bounds.py": "the printed bound",
        "curves.py": "how many runs",
        "ratio_noise.py": "precisions",
        "zoo.py": "drifts",
    }
    for path in sorted((ROOT / "ticgrpo_theory" / "plots").glob("*.py")):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        texts = {
            node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
        }
        colours = names & {"OKABE_ITO", "DASHES", "MARKERS", "WINE"}
        assert path.name == "style.py" or not colours or path.name in free, path.name
        coded = {text for text in texts if isinstance(text, str) and text.startswith("#") and len(text) == 7}
        assert path.name == "style.py" or coded <= {"#FFFFFF"}, path.name


def test_every_figure_says_whether_it_draws_estimators():
    assert set(DRAWN) | set(OTHERS) == set(figures.drawable(ROOT / "results"))
    assert not set(DRAWN) & set(OTHERS)


@functools.cache
def strange_looks() -> dict[str, tuple]:
    """The table with a colour for every estimator that is found nowhere else."""
    return {
        name: (f"#{40 + 9 * i:02x}{251 - 7 * i:02x}{(61 * i + 17) % 256:02x}", dashes, marker)
        for i, (name, (_, dashes, marker)) in enumerate(style.ESTIMATOR_LOOKS.items())
    }


def drawn(name: str) -> Figure:
    made = figures.load(name).EXPERIMENT
    rows = results_file.read(made.name, results_version=made.version, folder=ROOT / "results")
    return made.draw(rows)


def lines(figure: Figure) -> Iterator[tuple[str, str]]:
    """Colour and marker of all lines and points."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    named = [handle for legend in legends for handle in legend.findobj(Line2D)]
    for line in (*named, *(line for ax in figure.axes for line in ax.get_lines())):
        yield to_hex(line.get_color()), str(line.get_marker())


def is_grey(color: str) -> bool:
    return len(set(to_rgb(color))) == 1


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_takes_its_estimators_from_the_table(name, monkeypatch):
    monkeypatch.setattr(style, "ESTIMATOR_LOOKS", strange_looks())
    of = {color: (one, str(marker)) for one, (color, _, marker) in strange_looks().items()}
    found = set()
    for color, marker in lines(drawn(name)):
        if color not in of:
            assert is_grey(color), f"{name}: a line of colour {color} is none of the table's"
            assert marker in OWN_MARKS, f"{name}: {marker!r} in grey"
            continue
        estimator, own = of[color]
        assert marker in {own, *OWN_MARKS}, f"{name}: {estimator} as {marker!r}"
        found.add(estimator)
    assert found == DRAWN[name]


def test_the_check_notices_a_colour_of_its_own(monkeypatch):
    from ticgrpo_theory.plots import runs

    whole = runs.looks_of
    monkeypatch.setattr(runs, "looks_of", lambda names: whole(names) | {"stale": {"color": "#ff0000"}})
    with pytest.raises(AssertionError, match=r"stability: a line of colour #ff0000"):
        test_a_figure_takes_its_estimators_from_the_table("stability", monkeypatch)
