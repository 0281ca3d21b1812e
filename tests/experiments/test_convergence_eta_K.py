"""experiments/convergence_eta_K.py: the committed floors against references, and what cannot be run."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments import convergence_eta_K as script
from tests.thinned import more
from ticgrpo_theory.experiment.results_file import read
from ticgrpo_theory.floors import grid_tables as tables
from ticgrpo_theory.plots.style import select

pytestmark = more

RESULTS = Path(__file__).parents[2] / "results"
TINY = script.Config(
    series=("grpo",), group_sizes=(4,), steps=(0.2,), paths=(0.4,), path_length=2.0, tail=2.0, replicates=8
)


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return read(
        script.EXPERIMENT.name,
        config=script.Config(),
        results_version=script.EXPERIMENT.version,
        folder=RESULTS,
    )


@pytest.fixture(scope="module")
def floors(made) -> pd.DataFrame:
    return select(made, kind="floor")


def the(floors: pd.DataFrame, series: str, G: int, h: float, world: str = "xor") -> pd.Series:
    (row,) = (row for _, row in select(floors, world=world, series=series, responses=G, eta_K=h).iterrows())
    return row


# Floors of longer runs, three million outer steps: 1 %.
LONG = [
    ("one-step", 4, 1.6863e-3),
    ("one-step", 16, 4.119e-4),
    ("one-step", 64, 1.0094e-4),
    ("grpo", 64, 1.0089e-4),
    ("tic-eq11", 64, 9.896e-5),
]


@pytest.mark.parametrize("series, G, floor", LONG)
def test_floors_at_a_tenth_are_those_of_longer_runs(floors, series, G, floor):
    row = the(floors, series, G, 0.1)
    assert abs(row.floor - floor) <= row.half + 0.01 * floor
    # Partners: the interval is narrow, and excludes the floor of another step size.
    assert row.half < 0.02 * row.floor and abs(the(floors, series, G, 0.2).floor - floor) > 10 * row.half


def test_the_exact_limits_are_the_printed_coefficients(floors):
    for G, coefficient in ((4, 0.06768), (16, 0.06463), (64, 0.06300)):
        row = the(floors, "one-step", G, 0.025)
        assert row.first_order * G / 0.025 == pytest.approx(coefficient, abs=5e-6)
        # The smallest step is within a per cent of the limit, and its interval as narrow.
        assert abs(row.floor - row.first_order) <= 1.5 * row.half + 0.01 * row.first_order
        assert row.half < 0.015 * row.floor


@pytest.mark.parametrize("series", ["one-step", "grpo", "tic-eq11", "tic-literal", "grpo-disjoint"])
def test_floors_rise_with_eta_K_as_one_power(floors, series):
    fit = tables.common_slope(select(floors, world="xor", series=series), "eta_K", "responses")
    assert fit.coefficient["slope"] == pytest.approx(1, abs=0.04) and fit.half["slope"] < 0.04


@pytest.mark.parametrize("series", ["one-step", "grpo", "tic-eq11", "tic-literal"])
def test_the_product_is_all_there_is(floors, series):
    fit = tables.regressions(select(floors, world="xor", series=series))["exact product"]
    assert fit.coefficient["first order"] == pytest.approx(1, abs=0.03)
    assert fit.half["first order"] < 0.03 and fit.chi_square < 2 * fit.freedom
    for term in tables.SEPARATE:
        assert not fit.excludes_zero(term)
    # Each separate term is known to be a small part of the smallest floors, at eta K = 0.025 and G = 64.
    least = the(floors, series, 64, 0.025).floor
    assert fit.half["1"] < 0.05 * least


def test_the_tails_on_xor_are_stationary_and_those_of_the_tree_are_not(floors):
    ratio, worst = tables.halves(floors, "xor")
    assert ratio == pytest.approx(1, abs=0.03) and worst < 4
    ratio, worst = tables.halves(floors, "tree")
    assert ratio < 0.2 and worst > 50
    # Nor does the tree know anything of eta K.
    slope = tables.slope(select(floors, world="tree", responses=16), "eta_K")
    assert abs(slope.coefficient["slope"]) < 0.05


def test_disjoint_quarters_have_the_floor_of_the_whole_group(floors):
    """4 x 16 responses against 64: 2.6 % apart exactly, by the normalisation of smaller groups."""
    for h in (0.025, 0.05, 0.1, 0.2):
        apart, together = the(floors, "grpo-disjoint", 64, h), the(floors, "grpo", 64, h)
        assert apart.first_order / together.first_order == pytest.approx(0.06463 / 0.06300, abs=2e-4)
        assert abs(apart.floor - together.floor) <= 1.5 * apart.half + 0.05 * together.floor


def test_literal_steps_are_twice_as_long_and_so_is_the_floor(floors):
    for G in (4, 16, 64):
        literal, other = the(floors, "tic-literal", G, 0.025), the(floors, "tic-eq11", G, 0.025)
        assert literal.first_order / other.first_order == pytest.approx(2, abs=1e-9)
        assert literal.floor / other.floor == pytest.approx(2, abs=0.05)


def test_a_run_without_burn_in_would_have_to_be_longer_than_the_tail(floors):
    xor = select(floors, world="xor", series="one-step", responses=64)
    assert (xor.without_burn_in > 3 * xor["tail"]).all()


def test_paths_end_in_floors_on_xor_and_fall_on_the_tree(made):
    paths = select(made, kind="path").sort_values("time")
    for h in (0.05, 0.2):
        ends = {world: select(paths, world=world, eta_K=h).iloc[-1] for world in ("xor", "tree")}
        assert ends["xor"].floor * 16 / h == pytest.approx(0.0646, rel=0.1)
        assert ends["tree"].floor < ends["xor"].floor / 20


def test_one_cell_computed_again_is_the_committed_one(floors):
    row = dict(script.cell(script.Config(), "floor", "xor", "one-step", 4, 0.2)[0])
    kept = the(floors, "one-step", 4, 0.2)
    for name in ("floor", "standard_error", "first_order", "relaxation", "without_burn_in", "tail"):
        assert kept[name] == pytest.approx(row[name], rel=1e-9), name


def test_the_script_writes_rows_and_a_figure_that_redraws(tmp_path, capsys):
    cfg = dataclasses.replace(TINY, results=tmp_path / "r", figures=tmp_path / "f")
    script.main(cfg)
    printed = capsys.readouterr().out
    assert "slope of log floor" in printed and "second half / first half" in printed
    assert (tmp_path / "f" / "convergence_eta_K.png").stat().st_size > 10_000
    rows = read(
        script.EXPERIMENT.name, config=cfg, results_version=script.EXPERIMENT.version, folder=cfg.results
    )
    assert len(select(rows, kind="floor")) == 2 and set(rows.world) == {"xor", "tree"}
    assert np.isfinite(rows.floor).all()
    drawn = script.draw(rows)
    assert isinstance(drawn, Figure) and "floor" in drawn.get_suptitle()


@pytest.mark.parametrize(
    "change, text",
    [
        ({"series": ("ppo",)}, "unknown series 'ppo': choose from one-step"),
        ({"steps": (0.0,)}, "eta K = 0.0: a step is > 0, and below 2"),
        ({"paths": (3.0,)}, "eta K = 3.0: a step is > 0, and below 2"),
        ({"group_sizes": (1,)}, "group size 1: A needs at least 2 responses"),
        ({"path_length": 0.5}, "path_length = 0.5: eta K n must reach 1 at least"),
        ({"replicates": 4}, "replicates = 4: a standard error over replicates needs at least 8"),
        ({"tail": 0.0}, "both are numbers of relaxation times > 0"),
        ({"series": ()}, "give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, text):
    with pytest.raises(ValueError, match=text):
        script.rows(dataclasses.replace(TINY, **change))
