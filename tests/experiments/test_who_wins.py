"""experiments/who_wins.py: printed gains, where the predictions hold, and what ties are."""

import math

import pandas as pd
import pytest
import torch

from experiments import who_wins as experiment_script
from experiments.who_wins import BUILD, Config, estimators, summary
from tests.properties.tolerances import EXACT, PRINTED
from tests.thinned import more
from ticgrpo_theory.exact.reuse.leading_order import second_order
from ticgrpo_theory.worlds import WORLDS

pytestmark = more


def made(world: str, T: int, advantage: str = "population", clip: str = "none", **options) -> pd.DataFrame:
    """One cell, by measure, G and eta K."""
    cfg = Config(worlds=((world, T),), **options)
    experiment_script.check(cfg)
    frame = pd.DataFrame(experiment_script.cell(cfg, world, T, advantage, clip))
    return frame.set_index(["measure", "group_size", "eta_K"]).sort_index()


def expansion_of(world: str, T: int):
    free = estimators(Config(), "population", "none")
    return second_order(*BUILD[world](T), free["tic"], free["grpo"])


def test_the_second_order_of_the_gain_comes_out_to_the_printed_digits():
    expansion = expansion_of("match-tree", 2)
    assert expansion.common == pytest.approx(-1.2380488225e-3, abs=PRINTED(13)["atol"])
    assert expansion.own == pytest.approx(-3.3097378723e-4, abs=PRINTED(14)["atol"])


def test_the_second_order_is_that_of_one_prompt():
    free = estimators(Config(), "population", "none")
    world = WORLDS["two-prompts"]
    mdp = world.build()
    with pytest.raises(
        ValueError, match=r"this world has 2 prompts: .* take each prompt of mdp.prompts alone"
    ):
        second_order(mdp, world.theta_old(mdp), free["tic"], free["grpo"])
    (_, one), *_ = mdp.prompts
    assert math.isfinite(second_order(one, world.theta_old(mdp), free["tic"], free["grpo"]).common)


GAINS = {
    # G: tic, grpo, stale without clip; tic, grpo with clips of 0.2. Four steps of eta = 1/2.
    2: (0.06642035, 0.06273524, 0.06314742, 0.04508811, 0.04379087),
    4: (0.10475269, 0.10227165, 0.10255771, 0.08060215, 0.08026832),
    16: (0.12210678, 0.12248251, 0.12271299, 0.10797879, 0.10590440),
}


def test_the_gains_come_out_to_the_printed_digits_and_with_them_who_is_best():
    options = {"group_sizes": tuple(GAINS), "eta_K": (2.0,)}
    free, clipped = (made("match-tree", 2, "standardised", clip, **options) for clip in ("none", "eps"))
    for G, printed in GAINS.items():
        one, other = free.loc["gain", G, 2.0], clipped.loc["gain", G, 2.0]
        found = (one.tic, one.grpo, one.stale, other.tic, other.grpo)
        assert found == pytest.approx(printed, abs=PRINTED(8)["atol"])
        assert one.method == "exact" and one.half == 0.0
        # Without a clip on them, weights of 1 are the same in both.
        assert one.stale == other.stale
    assert free.best["gain", 4, 2.0] == "tic"
    assert free.best["gain", 16, 2.0] == "no_is" and free.lead["gain", 16, 2.0] < 0
    assert clipped.lead["gain", 16, 2.0] > 0


def test_small_steps_gain_what_is_predicted_and_the_winner_changes_at_the_crossover():
    small = {"group_sizes": (2, 3, 4), "eta_K": (0.001,)}
    found = made("differ-tree", 3, **small).loc["gain"]
    assert 3 < found.crossover.iloc[0] < 4
    for G in (2, 3, 4):
        row = found.loc[(G, 0.001)]
        assert row.lead == pytest.approx(row.predicted, rel=0.05)
        assert (row.lead > 0) == (G > row.crossover)
    # Partner: elsewhere both terms of the expansion have one sign, and no G changes the winner.
    other = made("match-tree", 2, **small).loc["gain"]
    assert other.crossover.iloc[0] < 1
    assert (other.lead < 0).all()


def test_the_error_of_a_fresh_gradient_is_bias_and_variance():
    options = {"group_sizes": (2, 4, 16), "eta_K": (2.0,)}
    found = made("majority", 4, tokens=2**8, exact_groups=1, **options).loc["mse"]
    for G in (2, 4, 16):
        row = found.loc[(G, 2.0)]
        assert row.lead == pytest.approx(row.predicted, abs=EXACT["atol"])
        assert (row.lead > 0) == (row.crossover < G)
    # Partner: the statistics of the group are no population z.
    group = made("majority", 4, "standardised", tokens=2**8, exact_groups=1, **options).loc["mse"]
    assert abs(group.loc[(2, 2.0)].lead - group.loc[(2, 2.0)].predicted) > 1e-3


def test_simulated_leads_are_those_of_all_groups():
    options = {"group_sizes": (4,), "eta_K": (2.0,)}
    sampled = made("match-tree", 2, "standardised", exact_groups=1, tokens=2**16, **options)
    row = sampled.loc["gain", 4, 2.0]
    lead = GAINS[4][0] - GAINS[4][1]
    assert row.method == "simulated"
    # Half-widths are 1.96 standard errors.
    assert abs(row.lead - lead) < 2.6 * row.half < 0.01
    # Partner: the lead at another G would not pass.
    assert abs(row.lead - (GAINS[16][0] - GAINS[16][1])) > row.half


def test_ties_are_told_apart_by_their_intervals_alone():
    def values(**means: float) -> dict[str, torch.Tensor]:
        noise = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
        return {name: mean + 0.1 * noise for name, mean in means.items()} | {"noisy": 2.0 + 5 * noise}

    found = summary(values(tic=1.0, grpo=1.5, stale=1.5), False, 0.0, math.nan)
    # The same noise in grpo, tic and stale cancels; nothing can be said against the noisy one.
    assert found["best"] == "tic=grpo=stale=noisy" and found["lead"] == pytest.approx(-0.5)
    assert found["half"] < 1e-12
    del (apart := values(tic=1.0, grpo=1.5, stale=1.5))["noisy"]
    assert summary(apart, False, 0.0, math.nan)["best"] == "grpo=stale"
    exact = {name: experiment_script.table(x) for name, x in (("tic", 1.0), ("grpo", 1.0 + 1e-9))}
    assert summary(exact, True, 0.0, math.nan)["best"] == "grpo"


@pytest.mark.parametrize(
    "change, text",
    [
        ({"worlds": (("minority", 2),)}, "unknown world 'minority': choose from all-ones, majority"),
        ({"worlds": (("majority", 1),)}, "world 'majority' with T = 1: match-tree has T = 2"),
        ({"group_sizes": (1,)}, "a group of one moves nothing"),
        ({"K": 1}, "one inner step is the same for all"),
        ({"eta_K": (0.0,)}, "steps are finite and above 0"),
    ],
)
def test_what_cannot_be_run_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        experiment_script.check(Config(**change))


def test_the_script_writes_rows_and_a_figure_and_counts_wins(tmp_path, capsys):
    cfg = Config(
        worlds=(("match-tree", 2), ("majority", 2)),
        group_sizes=(2, 4),
        eta_K=(0.5, 2.0),
        results=tmp_path / "results",
        figures=tmp_path / "figures",
    )
    experiment_script.main(cfg)
    assert (tmp_path / "results" / "who_wins.parquet").stat().st_size > 0
    assert (tmp_path / "figures" / "who_wins.png").stat().st_size > 10_000
    assert "match-tree" in capsys.readouterr().out
