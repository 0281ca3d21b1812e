"""experiments/length_floor.py: the committed floors beside their exact roots, and what cannot be run."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from experiments import length_floor as script
from tests.properties.tolerances import EXACT, PRINTED
from tests.thinned import more
from ticgrpo_theory.experiment.results_file import read
from ticgrpo_theory.floors import fixed_point_tables as tables
from ticgrpo_theory.plots.style import select

pytestmark = more

RESULTS = Path(__file__).parents[2] / "results"
TINY = script.Config(estimators=("grpo", "tic_grpo"), group_sizes=(4, 8), burn_in=1.0, tail=1.0, replicates=8)


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return read(
        script.EXPERIMENT.name,
        config=script.Config(),
        results_version=script.EXPERIMENT.version,
        folder=RESULTS,
    )


@pytest.mark.parametrize("name", ["grpo", "tic_grpo_eq11"])
def test_one_over_the_length_leaves_the_same_floor_at_every_G(made, name):
    line = select(made, line=name)
    assert (line.root - 0.010447581223).abs().max() < PRINTED(12)["atol"]
    # Drift inside an outer step moves it by less than 1 %.
    assert ((line.floor - line.root).abs() <= line.half + 0.01 * line.root).all()
    assert line.half.max() < 0.01 * 0.0104
    ratio, half = tables.change(line)
    assert abs(ratio - 1) < half + 0.005 and half < 0.01


@pytest.mark.parametrize("name, left", [("dapo", 1.924e-6 / 7.350e-4), ("tic_grpo", 3.091e-6 / 2.727e-4)])
def test_the_other_scales_fall_with_G_to_their_first_order(made, name, left):
    line = select(made, line=name)
    assert ((line.floor - line.first_order).abs() <= 1.5 * line.half + 0.05 * line.first_order).all()
    assert (line.half < 0.06 * line.floor).all()
    ratio, half = tables.change(line)
    assert ratio == pytest.approx(left, rel=0.1) and half < 0.1 * ratio
    assert line.floor.min() < 1e-3 * select(made, line="grpo").floor.min()


def test_roots_of_the_token_mean_and_of_the_sum(made):
    dapo = select(made, line="dapo").set_index("group_size").root
    for G, root in ((4, 5.936961e-4), (16, 3.991423e-5), (64, 2.494326e-6)):
        assert dapo[G] / root == pytest.approx(1, abs=1e-6)
    assert select(made, line="tic_grpo").root.max() < 1e-20


def test_the_tails_are_stationary(made):
    assert ((made.second_half - made.first_half).abs() < 4 * made.halves_error).all()


@more
def test_one_cell_computed_again_is_the_committed_one(made):
    (row,) = script.cell(script.Config(), "tic_grpo", 4)
    (kept,) = select(made, line="tic_grpo", group_size=4).to_dict("records")
    for name in ("floor", "standard_error", "root", "first_order", "relaxation", "tail"):
        assert kept[name] == pytest.approx(row[name], rel=1e-9), name


def test_a_change_by_hand():
    """8 +- 0.6 down to 2 +- 0.2: a quarter, +- 1/4 sqrt(0.1^2 + 0.075^2) = 1/32."""
    floors = pd.DataFrame({"group_size": [64, 4], "floor": [2.0, 8.0], "half": [0.2, 0.6]})
    assert tables.change(floors) == (0.25, pytest.approx(1 / 32, abs=EXACT["atol"]))


def test_the_script_writes_rows_and_a_figure(tmp_path, capsys):
    cfg = dataclasses.replace(TINY, results=tmp_path / "r", figures=tmp_path / "f")
    script.main(cfg)
    printed = " ".join(capsys.readouterr().out.split())
    assert "length-trap, optimum p = 0.5" in printed and "standard errors apart" in printed
    assert (tmp_path / "f" / "length_floor.png").stat().st_size > 10_000
    rows = read(
        script.EXPERIMENT.name, config=cfg, results_version=script.EXPERIMENT.version, folder=cfg.results
    )
    assert rows.groupby("line").size().to_dict() == {"grpo": 2, "tic_grpo": 2}
    assert "1/|s|" in script.draw(rows).get_suptitle()


@pytest.mark.parametrize(
    "change, text",
    [
        (
            {"estimators": ("gspo",)},
            "unknown entry 'gspo' of estimators; .*estimators: grpo, tic_grpo_eq11, dapo, tic_grpo",
        ),
        ({"group_sizes": (1,)}, "group size 1: A needs at least 2 responses"),
        ({"step": 0.0}, "step = 0.0: eta K is > 0, and below 2"),
        ({"inner_steps": 0}, "inner_steps = 0: K is at least 1"),
        ({"replicates": 2}, "replicates = 2: a standard error over replicates needs at least 8"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, text):
    with pytest.raises(ValueError, match=text):
        script.rows(dataclasses.replace(TINY, **change))
