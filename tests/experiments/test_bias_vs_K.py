"""experiments/bias_vs_K.py: what it claims, on its own rows, each claim beside a case where it must fail."""

import dataclasses
import itertools
import math

import pandas as pd
import pytest
import torch

from experiments.bias_vs_K import Config, rows, trace
from tests.oracles import definitions
from tests.properties.tolerances import EXACT, MOVES, VISIBLE
from tests.thinned import more
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.stats.power_law import growth
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

COLUMNS = [
    *("world", "estimator", "eta", "k"),
    *("bias_current", "bias_old", "bias_current_scaled", "bias_old_scaled", "scale", "scale_kind"),
    *("direction_error_current", "direction_error_old", "clip_fraction", "drift"),
]
KEY = COLUMNS[:4]

CFG = Config(
    estimators=("grpo", "gspo", "stale", "tic_grpo", "trajectory_is", "prefix_is", "rloo"),
    etas=(0.05, 0.5),
    K=4,
    group_size=4,
)
"""Every world, one estimator of each ratio."""

START = Config(etas=(0.5,), K=1, group_size=4)
"""Every world and every estimator, at theta_old and one step away."""

TINY = Config(worlds=("xor",), estimators=("grpo", "trajectory_is"), etas=(0.5,), K=2, group_size=2)

BINARY = ("bandit", "xor", "right-answer", "count-mod-3", "bigram")
"""One prompt, one length, two reward values."""

LONGER = tuple(name for name in WORLDS if name != "bandit")
"""Worlds with T > 1."""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(CFG))


@pytest.fixture(scope="module")
def start() -> pd.DataFrame:
    made = pd.DataFrame(rows(START))
    return made[made.k == 0]


def of(table: pd.DataFrame, estimator: str, *worlds: str) -> pd.DataFrame:
    chosen = table[(table.estimator == estimator) & table.world.isin(worlds or tuple(WORLDS))]
    assert len(chosen)
    return chosen


def close(value: float):
    return pytest.approx(value, abs=EXACT["atol"], rel=EXACT["rtol"])


def test_there_is_one_row_for_each_world_estimator_eta_and_k(table):
    assert list(table.columns) == COLUMNS
    expected = set(itertools.product(WORLDS, CFG.estimators, CFG.etas, range(CFG.K + 1)))
    assert set(table[KEY].itertuples(index=False, name=None)) == expected and len(table) == len(expected)


def test_the_trajectory_ratio_is_unbiased_for_the_current_gradient_at_every_k(table):
    assert of(table, "trajectory_is").bias_current.max() <= EXACT["atol"]
    assert of(table, "trajectory_is").direction_error_current.max() <= EXACT["atol"]
    # Not because nothing moved: against the old gradient the same estimator is off.
    assert of(table, "trajectory_is").query("k == @CFG.K and eta == 0.5").bias_old.min() > MOVES


@pytest.mark.parametrize("name", ["grpo", "gspo", "stale", "prefix_is", "rloo"])
def test_no_other_ratio_is_unbiased_for_the_current_gradient(table, name):
    for world in LONGER:
        last = of(table, name, world).query("k == @CFG.K and eta == 0.5")
        assert last.bias_current_scaled.item() > 0.1 * MOVES, world


@pytest.mark.parametrize("world", [name for name in BINARY if name != "bandit"])
def test_the_error_of_the_token_ratio_grows_like_eta_K(table, world):
    def grown(name: str):
        part = of(table, name, world)
        columns = (part.eta * part.k, part.bias_current_scaled, part.clip_fraction > 0)
        return growth(*(column.to_numpy() for column in columns))

    fit = grown("grpo").power_law
    assert 0.9 < fit.slope < 1.15 and fit.points >= 5
    # The literal trajectory ratio has no error to fit until its clip acts, the unclipped one never.
    assert grown("tic_grpo").largest <= EXACT["atol"] and grown("tic_grpo").power_law is None
    assert grown("trajectory_is").largest <= EXACT["atol"] and grown("trajectory_is").clip_from == math.inf


def test_the_slope_is_one_to_a_percent_where_steps_are_small():
    cfg = Config(worlds=("count-mod-3",), estimators=("grpo",), etas=(1e-4, 1e-3), K=4)
    part = pd.DataFrame(rows(cfg))
    fit = growth(
        (part.eta * part.k).to_numpy(), part.bias_current_scaled.to_numpy(), (part.k < 0).to_numpy()
    ).power_law
    assert fit.slope == pytest.approx(1, abs=0.01) and fit.points == 8


def test_with_three_reward_values_the_error_does_not_start_at_zero(start):
    # ... so that "grows like eta K" is a statement that can fail.
    assert of(start, "grpo", "few-values").bias_current_scaled.item() > MOVES
    assert of(start, "dr_grpo", "few-values").bias_current_scaled.item() <= EXACT["atol"]


def test_for_one_token_the_unclipped_token_and_trajectory_ratios_coincide(table):
    def twins(world: str, *pair: str) -> float:
        mdp = WORLDS[world].build()
        theta_old = WORLDS[world].theta_old(mdp)
        theta = theta_old + 0.5 * torch.sin(torch.arange(theta_old.numel())).reshape(theta_old.shape)
        whole = ESTIMATORS["trajectory_is"]
        token = dataclasses.replace(whole, ratio=ESTIMATORS["grpo"].ratio)
        first, second = (expected_gradient(mdp, theta, theta_old, e, group_size=4) for e in (token, whole))
        return float((first - second).abs().max())

    assert twins("bandit") <= EXACT["atol"]
    assert min(twins(world) for world in LONGER) > 0.1 * MOVES
    # The prefix up to the only token is the whole response too.
    numbers = COLUMNS[4:8]
    for world, equal in (("bandit", True), ("bigram", False)):
        prefix, whole = (
            of(table, name, world)[numbers].to_numpy() for name in ("prefix_is", "trajectory_is")
        )
        assert (abs(prefix - whole).max() <= EXACT["atol"]) == equal


def test_with_two_reward_values_and_one_length_every_estimator_starts_in_the_direction_of_the_gradient(start):
    assert start[start.world.isin(BINARY)].direction_error_current.max() <= EXACT["atol"]
    assert start[start.world.isin(BINARY)].bias_current_scaled.max() <= EXACT["atol"]
    assert not start[start.world.isin(BINARY)].direction_error_current.isna().any()
    # Several lengths, several prompts with their own std, three reward values: each alone turns it away.
    for world in ("long-answers", "two-prompts", "few-values"):
        assert of(start, "grpo", world).direction_error_current.min() > MOVES, world
    assert of(start, "tic_grpo", "long-answers").direction_error_current.max() <= EXACT["atol"]
    assert of(start, "dr_grpo", "two-prompts", "few-values").direction_error_current.max() <= EXACT["atol"]


def test_in_the_traps_the_estimator_starts_downhill(start):
    assert of(start, "grpo", "length-trap").direction_error_current.min() == close(2)
    assert of(start, "grpo", "length-trap").scale.max() < 0 < of(start, "tic_grpo", "length-trap").scale.min()


def test_the_stale_gradient_is_the_old_one_at_every_k_and_the_token_ratio_is_neither(table):
    assert of(table, "stale", *BINARY).bias_old_scaled.max() <= EXACT["atol"]
    last = of(table, "grpo", "right-answer", "count-mod-3", "bigram").query("k == @CFG.K and eta == 0.5")
    assert last.bias_old_scaled.min() > MOVES and last.bias_current_scaled.min() > MOVES


def standardised_slope(p: float, G: int, delta: float) -> float:
    """E[s (1 - s) / (sqrt(s (1 - s)) + delta)] / (p (1 - p)), s = Binomial(G, p) / G."""
    total = 0.0
    for n in range(1, G):
        variance = n / G * (1 - n / G)
        chance = math.comb(G, n) * p**n * (1 - p) ** (G - n)
        total += chance * variance / (math.sqrt(variance) + delta)
    return total / (p * (1 - p))


def test_the_known_scale_is_kappa_times_the_slope_of_the_advantage(start):
    G = START.group_size
    first = start.set_index(["world", "estimator"])
    for world, p, T in (("xor", 0.42, 2), ("bandit", None, 1)):
        p = p or 1 / sum(map(math.exp, (-0.3, 0.2, 0.0, -0.2)))
        std = standardised_slope(p, G, 1e-6)
        by_hand = {
            "grpo": std / T,
            "dapo": std / T,
            "tic_grpo": std,
            "gspo": std / T,
            "dr_grpo": (1 - 1 / G) / T,
        }
        by_hand |= {"rloo": 1.0, "reinforce": 1.0, "trajectory_is": 1.0, "prefix_is": 1.0}
        for name, scale in by_hand.items():
            assert first.scale[world, name] == close(scale), (world, name)
            assert first.scale_kind[world, name] == "known"
    assert first.scale["xor", "tic_grpo"] == close(2 * first.scale["xor", "tic_grpo_eq11"])


def test_several_lengths_or_standard_deviations_leave_only_the_least_squares_scale(start):
    kinds = start.set_index(["world", "estimator"]).scale_kind
    assert {kinds[world, "grpo"] for world in ("long-answers", "length-trap", "two-prompts")} == {
        "least_squares"
    }
    assert kinds["two-prompts", "dr_grpo"] == kinds["few-values", "grpo"] == "known"
    # At k = 0 no other multiple of the gradient is nearer.
    part = of(start, "grpo", "long-answers").iloc[0]
    sine = math.sqrt(1 - (1 - part.direction_error_current) ** 2)
    assert part.bias_current_scaled < part.bias_current and sine > VISIBLE
    mdp = WORLDS["long-answers"].build()
    old = WORLDS["long-answers"].theta_old(mdp)
    length = float(expected_gradient(mdp, old, old, "grpo", group_size=START.group_size).norm())
    assert part.bias_current_scaled == close(length * sine)


@pytest.mark.parametrize("name", ["grpo", "tic_grpo", "cispo", "stale", "rloo"])
def test_two_steps_by_plain_loops_over_groups_give_the_same_numbers(name):
    cfg = Config(worlds=("xor",), estimators=(name,), etas=(1.0,), K=2, group_size=3)
    world = definitions.path_world(2, 2, lambda prefix: 0, lambda y: float(y[0] != y[1]))
    old = WORLDS["xor"].theta_old(WORLDS["xor"].build()).tolist()
    theta = old
    for row in rows(cfg):
        mean = definitions.expected_gradient(world, theta, old, name, 3)
        now, before = (definitions.policy_gradient(world, at) for at in (theta, old))
        assert row["bias_current"] == close(math.sqrt(definitions.squared_distance(mean, now)))
        assert row["bias_old"] == close(math.sqrt(definitions.squared_distance(mean, before)))
        assert row["drift"] == close(math.sqrt(definitions.squared_distance(theta, old)))
        theta = [[x + y for x, y in zip(row, g, strict=True)] for row, g in zip(theta, mean, strict=True)]
    assert row["drift"] > MOVES


def test_the_clip_switches_on_with_the_drift_and_only_where_there_is_one():
    cfg = Config(worlds=("count-mod-3",), estimators=("tic_grpo", "trajectory_is"), etas=(0.1,), K=6)
    part = pd.DataFrame(rows(cfg))
    share = of(part, "tic_grpo").clip_fraction
    assert share.iloc[0] == 0 < share.iloc[-1] < 1
    first = of(part, "tic_grpo")[share > 0].index[0]
    # The error is zero up to the step at which the clip switches on, and jumps there.
    assert part.bias_current_scaled[first - 1] <= EXACT["atol"] and part.bias_current_scaled[first] > VISIBLE
    assert of(part, "trajectory_is").clip_fraction.max() == 0


def test_where_every_reward_is_lost_there_is_no_direction_and_nan_says_so(monkeypatch):
    world = WORLDS["bandit"]
    alike = dataclasses.replace(world, build=dull_bandit)
    monkeypatch.setitem(WORLDS, "bandit", alike)
    made = trace(Config(K=1, etas=(0.1,)), "bandit", "grpo")
    assert all(math.isnan(row["direction_error_current"]) for row in made)
    assert max(row["bias_current_scaled"] for row in made) <= EXACT["atol"]
    assert {row["scale_kind"] for row in made} == {"none"}


def dull_bandit():
    return TokenMDP.prefix_tree(vocab_size=4, horizon=1, reward=[0.5] * 4)


@pytest.mark.parametrize(
    ("change", "column"),
    [({"etas": (0.6,)}, "drift"), ({"group_size": 3}, "scale"), ({"worlds": ("bigram",)}, "bias_current")],
)
def test_every_option_moves_the_numbers(change, column):
    before, after = (pd.DataFrame(rows(cfg)) for cfg in (TINY, dataclasses.replace(TINY, **change)))
    assert abs(before[column].to_numpy() - after[column].to_numpy()).max() > MOVES


def test_more_inner_steps_add_rows_and_change_none():
    few, more = (pd.DataFrame(rows(dataclasses.replace(TINY, K=K))) for K in (2, 3))
    pd.testing.assert_frame_equal(few, more[more.k <= 2].reset_index(drop=True))
    assert len(more) == len(few) + 2
