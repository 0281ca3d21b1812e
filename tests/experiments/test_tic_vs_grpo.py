"""experiments/tic_vs_grpo.py: longer steps at equal eta, equal ones after the correction, and the clip."""

import pandas as pd
import pytest

from experiments import tic_vs_grpo as experiment_script
from experiments.tic_vs_grpo import Config
from tests.properties.tolerances import EXACT
from tests.thinned import more
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

SMALL = {
    "estimators": ("grpo", "tic_grpo", "tic_grpo_eq11"),
    "outer_steps": 8,
    "record_every": 4,
    "replicates": 32,
    "group_size": 8,
}


def made(world: str, condition: str, **options) -> pd.DataFrame:
    """The last rows of one cell by estimator."""
    cfg = Config(**SMALL | options)
    experiment_script.check(cfg)
    frame = pd.DataFrame(experiment_script.cell(cfg, world, condition, "reused"))
    return frame[frame.n == frame.n.max()].set_index("estimator")


def test_equal_eta_gives_equation_9_longer_steps_and_equal_steps_take_its_lead_away():
    longer, equal = (made("few-values", condition) for condition in ("equal eta", "equal step"))
    assert longer.mean_gap["tic_grpo"] > 0.02 + longer.mean_gap_half["tic_grpo"]
    # Three tokens: with eta / 3 the literal gradient is the one with 1/|s|.
    assert equal.eta["tic_grpo"] == pytest.approx(equal.eta["grpo"] / 3, rel=EXACT["rtol"])
    assert equal.J["tic_grpo"] == pytest.approx(equal.J["tic_grpo_eq11"], abs=1e-9)
    assert equal.mean_gap["tic_grpo"] < 0.2 * longer.mean_gap["tic_grpo"]
    # Whatever the condition, what has its 1/|s| keeps its eta.
    assert longer.J["tic_grpo_eq11"] == equal.J["tic_grpo_eq11"]


def test_adam_divides_the_length_away():
    end = made("few-values", "adam")
    assert end.eta.nunique() == 1
    # What is left of a factor of three is epsilon = 1e-8.
    assert end.J["tic_grpo"] == pytest.approx(end.J["tic_grpo_eq11"], abs=1e-4)
    # Partner: by plain ascent the factor is plain to see.
    plain = made("few-values", "equal eta")
    assert abs(plain.J["tic_grpo"] - plain.J["tic_grpo_eq11"]) > 0.02


def test_the_length_that_steps_are_divided_by_is_the_mean_one_at_the_start():
    world = WORLDS["length-trap"]
    mdp = world.build()
    # pi(0) = 0.6 three times at most: 1 + 0.6 + 0.36 tokens.
    assert experiment_script.mean_length(mdp, world.theta_old(mdp)) == pytest.approx(1.96, abs=EXACT["atol"])
    eta = made("length-trap", "equal step", outer_steps=1, record_every=1, replicates=2).eta
    assert eta["tic_grpo"] == pytest.approx(0.25 / 1.96, rel=EXACT["rtol"])


@pytest.mark.parametrize(
    "change, text",
    [
        ({"worlds": ("two-prompts",)}, "world 'two-prompts' has 2 prompts"),
        (
            {"conditions": ("equal",)},
            "unknown entry 'equal' of conditions; .*conditions: equal eta, equal step, adam",
        ),
        ({"estimators": ("tic_grpo",)}, "grpo is what all are compared with; add it"),
        ({"estimators": ("grpo", "tic")}, "unknown entry 'tic' of estimators; .*estimators: grpo, tic_grpo"),
        ({"replicates": 1}, "replicates = 1: intervals need 2 or more"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(Config(**change))


def test_the_script_writes_rows_and_a_figure_and_says_who_is_ahead(tmp_path, capsys):
    cfg = Config(
        **SMALL | {"outer_steps": 4, "replicates": 4},
        worlds=("few-values",),
        batches=("reused",),
        results=tmp_path / "results",
        figures=tmp_path / "figures",
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "tic_vs_grpo.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "tic_vs_grpo.png").stat().st_size > 10_000
    assert "equal step" in capsys.readouterr().out
