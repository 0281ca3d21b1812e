"""experiments/prompt_floor.py: the committed floors beside their exact roots, and what cannot be run."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from experiments import prompt_floor as script
from tests.thinned import more
from ticgrpo_theory.exact import gradient_moments
from ticgrpo_theory.exact.fixed_points import policy
from ticgrpo_theory.experiment.results_file import read
from ticgrpo_theory.floors import fixed_point_tables as tables
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

RESULTS = Path(__file__).parents[2] / "results"
TINY = script.Config(prompts=(1, 2), group_sizes=(4,), burn_in=0.2, tail=0.2, replicates=8)


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    return read(
        script.EXPERIMENT.name,
        config=script.Config(),
        results_version=script.EXPERIMENT.version,
        folder=RESULTS,
    )


def test_divided_by_the_std_the_exact_floor_grows_with_G(made):
    root = select(made, estimator="grpo", prompts=8).set_index("group_size").root
    for G, printed in ((4, 3.210978e-6), (16, 2.316707e-4), (64, 3.147404e-4), (256, 3.281465e-4)):
        assert root[G] / printed == pytest.approx(1, abs=1e-6)
    assert select(made, estimator="dr_grpo").root.max() < 1e-20


@pytest.mark.parametrize("P, beyond", [(1, 0.15), (8, 0.05)])
def test_the_simulated_floors_are_first_order_the_nearer_the_less_noise(made, P, beyond):
    line = select(made, prompts=P)
    assert ((line.floor - line.first_order).abs() <= 1.5 * line.half + beyond * line.first_order).all()
    assert (line.half < 0.08 * line.floor).all()


def test_with_eight_prompts_only_the_floor_without_std_does_not_grow(made):
    many = select(made, prompts=8).set_index(["estimator", "group_size"])
    grown = many.floor["grpo", 256] - many.half["grpo", 256] - many.floor["grpo", 4]
    assert grown > 2e-4
    assert many.floor["dr_grpo", 256] < many.floor["dr_grpo", 4]
    assert many.floor["grpo", 256] > 8 * many.floor["dr_grpo", 256]
    for estimator, left in (("grpo", 4.3), ("dr_grpo", 0.78)):
        ratio, half = tables.change(select(made, estimator=estimator, prompts=8))
        assert ratio == pytest.approx(left, rel=0.1) and half < 0.1 * ratio


def test_what_is_left_without_std_is_noise_that_more_prompts_average_away(made):
    one, eight = (select(made, estimator="dr_grpo", prompts=P).set_index("group_size") for P in (1, 8))
    assert ((one.floor / eight.floor) / 8).to_numpy() == pytest.approx([1] * 4, rel=0.15)
    # At G = 256 nearly all of it is the draw of the prompt, which no group size averages away. The mean of
    # centred rewards is 1 - 1/G times that of infinite groups.
    mdp = WORLDS["prompt-trap"].build()
    theta = policy(mdp, 0.75)
    drawn = gradient_moments(mdp, theta, theta, "dr_grpo", group_size=float("inf")).variance
    whole = gradient_moments(mdp, theta, theta, "dr_grpo", group_size=256).variance
    assert 0.95 < drawn * (1 - 1 / 256) ** 2 / whole < 1


def test_the_tails_are_stationary(made):
    assert ((made.second_half - made.first_half).abs() < 4 * made.halves_error).all()


@pytest.mark.slow
def test_one_cell_computed_again_is_the_committed_one(made):
    (row,) = script.cell(script.Config(), "grpo", 1, 4)
    (kept,) = select(made, estimator="grpo", prompts=1, group_size=4).to_dict("records")
    for name in ("floor", "standard_error", "root", "first_order", "relaxation", "tail"):
        assert kept[name] == pytest.approx(row[name], rel=1e-9), name


def test_the_script_writes_rows_and_a_figure(tmp_path, capsys):
    cfg = dataclasses.replace(TINY, results=tmp_path / "r", figures=tmp_path / "f")
    script.main(cfg)
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "prompt-trap, optimum p = 0.75" in printed
        and "dr_grpo, P = 2: floor at G = 4 / floor at G = 4 = 1" in printed
    )
    assert (tmp_path / "f" / "prompt_floor.png").stat().st_size > 10_000
    rows = read(
        script.EXPERIMENT.name, config=cfg, results_version=script.EXPERIMENT.version, folder=cfg.results
    )
    assert rows.groupby(["estimator", "prompts"]).size().to_list() == [1, 1, 1, 1]
    assert "grows with $G$" in script.draw(rows).get_suptitle()


@pytest.mark.parametrize(
    "change, text",
    [
        ({"estimators": ("dapo",)}, "unknown entry 'dapo' of estimators; .*estimators: grpo, dr_grpo"),
        ({"prompts": (0,)}, "prompts = 0: an outer step draws at least 1"),
        ({"group_sizes": (1,)}, "group size 1: A needs at least 2 responses"),
        ({"step": 2.0}, "step = 2.0: eta K is > 0, and below 2"),
        ({"burn_in": 0.0}, "both are numbers of relaxation times > 0"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, text):
    with pytest.raises(ValueError, match=text):
        script.rows(dataclasses.replace(TINY, **change))
