"""experiments/convergence_G.py: the committed floors against G, and what cannot be run."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from experiments import convergence_G as script
from tests.thinned import more
from ticgrpo_theory.experiment.results_file import read
from ticgrpo_theory.floors import grid_tables as tables
from ticgrpo_theory.plots.style import select

pytestmark = more

RESULTS = Path(__file__).parents[2] / "results"
TINY = script.Config(
    series=("grpo", "grpo-disjoint"), group_sizes=(4, 8, 16), steps=(0.2, 0.3), tail=2.0, replicates=8
)


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return read(
        script.EXPERIMENT.name,
        config=script.Config(),
        results_version=script.EXPERIMENT.version,
        folder=RESULTS,
    )


@pytest.mark.parametrize("series", ["one-step", "grpo", "tic-eq11", "tic-literal", "grpo-disjoint"])
def test_floors_fall_as_one_over_G(made, series):
    fit = tables.common_slope(select(made, world="xor", series=series), "responses", "eta_K")
    assert fit.coefficient["slope"] == pytest.approx(-1, abs=0.03) and fit.half["slope"] < 0.04


def test_at_small_steps_the_slope_is_that_of_the_exact_coefficients(made):
    """A little below -1: log of floor G / (eta K) falls from 0.0677 to 0.0630 between G = 4 and 64."""
    line = select(made, world="xor", series="one-step", eta_K=0.05)
    exact = line.assign(floor=line.first_order)
    sampled, known = (tables.slope(of, "responses") for of in (line, exact))
    assert abs(sampled.coefficient["slope"] - known.coefficient["slope"]) < 1.5 * sampled.half["slope"]
    # Partner: -1 itself is excluded.
    assert sampled.coefficient["slope"] + sampled.half["slope"] < -1


def test_the_tree_has_no_floor_to_fall(made):
    tree = tables.common_slope(select(made, world="tree", series="grpo"), "responses", "eta_K")
    assert tree.coefficient["slope"] > -0.3
    assert tables.halves(made, "tree")[0] < 0.2 and tables.halves(made, "xor")[1] < 4


@pytest.mark.parametrize("series", ["one-step", "grpo", "tic-eq11", "tic-literal", "grpo-disjoint"])
def test_the_product_is_all_there_is(made, series):
    floors = select(made, world="xor", series=series)
    fit = tables.regressions(floors)["exact product"]
    assert abs(fit.coefficient["first order"] - 1) < 1.5 * fit.half["first order"]
    assert fit.chi_square < 2 * fit.freedom
    for term in tables.SEPARATE:
        assert abs(fit.coefficient[term]) < 1.5 * fit.half[term]
    # Partner: a tenth of the floors of G = 16 at eta K = 0.1, as a term in 1/G alone, would be found.
    added = 0.1 * float(select(floors, responses=16, eta_K=0.1).floor.iloc[0]) * 16
    if series != "grpo-disjoint":
        shifted = floors.assign(floor=floors.floor + added / floors.responses)
        assert tables.regressions(shifted)["exact product"].excludes_zero("1 / G")


def test_floors_are_those_of_the_other_experiment(made):
    """Other random numbers, the same floors."""
    other = select(pd.read_parquet(RESULTS / "convergence_eta_K.parquet"), kind="floor", world="xor")
    both = made[made.world == "xor"].merge(other, on=["series", "responses", "eta_K"])
    assert len(both) > 30
    z = (both.floor_x - both.floor_y) / (both.standard_error_x**2 + both.standard_error_y**2) ** 0.5
    assert z.abs().max() < 4 and 0.5 < (z**2).mean() < 1.8


def test_the_script_writes_rows_and_a_figure(tmp_path, capsys):
    cfg = dataclasses.replace(TINY, results=tmp_path / "r", figures=tmp_path / "f")
    script.main(cfg)
    printed = " ".join(capsys.readouterr().out.split())
    assert "regression of the floor on xor: four terms" in printed and "log G" in printed
    assert (tmp_path / "f" / "convergence_G.png").stat().st_size > 10_000
    rows = read(
        script.EXPERIMENT.name, config=cfg, results_version=script.EXPERIMENT.version, folder=cfg.results
    )
    # Disjoint groups of 2 and 4 where G is 8 and 16; the tree under grpo.
    assert select(rows, world="xor").groupby("series").size().to_dict() == {"grpo": 6, "grpo-disjoint": 4}
    assert len(select(rows, world="tree")) == 6
    drawn = script.draw(rows)
    assert "product" in drawn.get_suptitle() and drawn.axes[0].get_xlabel().startswith("$G$")


@pytest.mark.parametrize(
    "change, text",
    [
        ({"series": ("ppo",)}, "unknown series 'ppo': choose from one-step"),
        ({"steps": (2.5,)}, "eta K = 2.5: a step is > 0, and below 2"),
        ({"group_sizes": (0,)}, "group size 0: A needs at least 2 responses"),
        ({"burn_in": -1.0}, "burn_in = -1.0, tail = 2.0: both are numbers of relaxation times > 0"),
        ({"group_sizes": (8, 8)}, "give at least one, and none twice"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, text):
    with pytest.raises(ValueError, match=text):
        script.rows(dataclasses.replace(TINY, **change))
