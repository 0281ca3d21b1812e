"""experiments/bias_vs_drift.py: what it claims, on its own rows, each claim beside a case that must fail."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.bias_vs_drift import DIRECTIONS, RATIOS, Config, G, crossover, entry, errors, rows
from tests.properties.tolerances import DIFFERENCED, EXACT, MOVES, PRINTED, VISIBLE
from tests.thinned import more
from ticgrpo_theory.exact import Problem, expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.stats.power_law import fit_power_law
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

CFG = Config(worlds=("xor", "right-answer", "long-answers"), drifts=(0.001, 0.002, 0.004, 0.008, 1.0))
SMALL = Config(worlds=("xor",), ratios=("token",), drifts=(0.5,))
NEITHER = ("token", "geometric_mean", "prefix")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.DataFrame(rows(CFG))


def of(table: pd.DataFrame, *ratios: str) -> pd.DataFrame:
    chosen = table[table.ratio.isin(ratios)]
    assert len(chosen) == len(ratios) * len(CFG.worlds) * len(DIRECTIONS) * len(CFG.drifts)
    return chosen


def test_the_trajectory_ratio_is_the_current_gradient_and_no_ratio_with_the_old_score_the_old_one(table):
    assert of(table, "trajectory").error_current.max() <= EXACT["atol"]
    assert of(table, "none, score at old").error_old.max() <= EXACT["atol"]
    # Each is as far from the other gradient as the gradient moved.
    for name, column in (("trajectory", "error_old"), ("none, score at old", "error_current")):
        part = of(table, name)
        np.testing.assert_allclose(part[column], part.moved, **EXACT)
        assert part[part.drift == 1].moved.min() > 0.1 * VISIBLE


@pytest.mark.parametrize("name", NEITHER)
def test_the_ratios_between_are_neither_gradient(table, name):
    part = of(table, name)
    assert part[part.drift == 1][["error_current", "error_old"]].min(axis=None) > MOVES


@pytest.mark.parametrize("name", NEITHER)
def test_both_errors_grow_in_proportion_to_the_drift(table, name):
    for _, part in of(table, name).groupby(["world", "direction"]):
        for column in ("error_current", "error_old"):
            fit = fit_power_law(part.drift.to_numpy(), part[column].to_numpy())
            assert fit is not None and fit.slope == pytest.approx(1.0, abs=0.03)


def test_the_token_ratio_starts_nearer_to_the_old_gradient_and_the_trajectory_ratio_at_the_current_one(table):
    small = table[table.drift == min(CFG.drifts)]
    assert small[small.ratio == "token"].nearer.min() > 0.5
    assert small[small.ratio == "trajectory"].nearer.max() <= 1e-6
    assert small[small.ratio == "none, score at old"].nearer.min() >= 1 - 1e-6


def preorder(mdp: TokenMDP) -> list[int]:
    """Place of each row in depth-first preorder, in which the printed instances number them."""
    order = sorted(mdp.prefixes)
    return [order.index(prefix) for prefix in mdp.prefixes]


def tree(V: int, reward: object) -> tuple[TokenMDP, torch.Tensor, torch.Tensor]:
    """The world, theta[i, j] = 0.1 ((3 i + 5 j) mod 7) - 0.3 and the direction, i the place in preorder."""
    mdp = TokenMDP.prefix_tree(vocab_size=V, horizon=3, reward=reward)
    i, j = np.arange(mdp.num_rows)[:, None], np.arange(V)
    place = preorder(mdp)
    theta = torch.from_numpy((0.1 * ((3 * i + 5 * j) % 7) - 0.3)[place])
    return mdp, theta, DIRECTIONS["sine"](mdp, theta)[place]


def counted() -> tuple[TokenMDP, torch.Tensor, torch.Tensor]:
    """Four tokens from one row, right when two of them are 1."""
    mdp = TokenMDP.automaton(
        [[0, 1], [1, 2], [2, 3], [3, 4], [4, 4]],
        vocab_size=2,
        horizon=4,
        reward=[0.0, 0.0, 1.0, 0.0, 0.0],
        rows=[0] * 5,
    )
    theta = torch.tensor([[0.4, -0.4]], dtype=torch.float64)
    return mdp, theta, DIRECTIONS["sine"](mdp, theta)


# World; J, ||g||^2, g'Hg, g'H_d g; errors against grad J(theta_old + 0.012 u): no ratio, the token's.
INSTANCES = {
    "tree of 8": (
        lambda: tree(2, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
        (0.4036817958, 4.3249353590e-2, 4.657912e-4, -8.313021e-4, 4.683223e-4, 4.949676e-4),
    ),
    "tree of 27": (
        lambda: tree(3, lambda y: float(sum(y) == 3)),
        (0.2840324056, 1.0428212405e-2, 2.408888e-4, 9.225067e-5, 2.235731e-4, 2.184743e-4),
    ),
    "one row": (
        counted,
        (0.2745441496, 8.7049223086e-2, -1.329703e-2, 1.380027e-2, 7.111428e-5, 1.447421e-4),
    ),
}


def curvature(field, theta: torch.Tensor, g: torch.Tensor) -> float:
    """g' (d field) g by a five-point difference."""
    h = 0.01
    at = {k: float((field(theta + k * h * g) * g).sum()) for k in (-2, -1, 1, 2)}
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)


@pytest.mark.parametrize("name", INSTANCES)
def test_errors_and_curvatures_to_the_printed_digits(name):
    build, (J, square, hessian, own, without, token) = INSTANCES[name]
    mdp, old, u = build()
    g = policy_gradient(mdp, old)
    np.testing.assert_allclose(expected_return(mdp, old), J, **PRINTED(10))
    np.testing.assert_allclose(float(g.square().sum()) / square, 1.0, **PRINTED(9))
    theta = old + 0.012 * u
    for ratio, printed in (("none, score at old", without), ("token", token)):
        found = errors(Problem(mdp, theta, old, RATIOS[ratio], G))["error_current"]
        np.testing.assert_allclose(found / printed, 1.0, **PRINTED(6))
    assert errors(Problem(mdp, theta, old, RATIOS["trajectory"], G))["error_current"] <= EXACT["atol"]
    # H of J, and H_d, to first order what the token ratio adds to the old gradient.
    by_token = curvature(lambda at: expected_gradient(mdp, at, old, RATIOS["token"], G), old, g)
    by_all = curvature(lambda at: policy_gradient(mdp, at), old, g)
    assert by_token == pytest.approx(own, abs=DIFFERENCED["atol"])
    assert by_all == pytest.approx(hessian, abs=DIFFERENCED["atol"])
    assert abs(by_token - by_all) > MOVES


def test_the_token_ratio_can_be_farther_from_the_current_gradient_than_no_ratio_or_nearer():
    worse = {name: printed[5] > printed[4] for name, (_, printed) in INSTANCES.items()}
    assert worse == {"tree of 8": True, "tree of 27": False, "one row": True}
    for name, expected in worse.items():
        mdp, old, u = INSTANCES[name][0]()
        theta = old + 0.012 * u
        token, without = (
            errors(Problem(mdp, theta, old, RATIOS[ratio], G))["error_current"]
            for ratio in ("token", "none, score at old")
        )
        assert (token > without) == expected


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_size_of_the_group_does_not_matter(ratio):
    mdp = WORLDS["long-answers"].build()
    old = WORLDS["long-answers"].theta_old(mdp)
    theta = old + 0.5 * DIRECTIONS["sine"](mdp, old)
    means = [expected_gradient(mdp, theta, old, RATIOS[ratio], size) for size in (G, 5)]
    torch.testing.assert_close(*means, **EXACT)


def test_at_one_token_all_ratios_are_one():
    made = pd.DataFrame(rows(Config(worlds=("bandit",), drifts=(0.5,))))
    weighted = made[~made.ratio.str.startswith("none")]
    assert weighted.error_current.max() <= EXACT["atol"] and weighted.ratio.nunique() == 4
    assert made[made.ratio == "none, score at old"].error_current.min() > MOVES


def test_the_nearer_gradient_changes_where_the_share_crosses_one_half():
    drift = np.array([0.25, 1.0, 4.0, 16.0])
    assert crossover(drift, np.array([0.75, 0.25, 0.25, 0.75])) == [0.5, 8.0]
    assert crossover(drift, np.array([0.75, 0.75, 0.625, 1.0])) == []
    made = pd.DataFrame({"drift": drift, "nearer": [0.75, 0.25, 0.25, 0.25]})
    made = made.assign(error_current=0.75, error_old=0.25, moved=0.5)
    assert entry(made) == "1.50 0.50 >0.5"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"worlds": ("xorr",)}, r"unknown entry 'xorr' of worlds; the nearest is 'xor'"),
        (
            {"ratios": ("tokens",)},
            r"unknown entry 'tokens' of ratios; the nearest is 'token' .*none, score at old",
        ),
        (
            {"directions": ("down",)},
            r"unknown entry 'down' of directions; the nearest .*directions: uphill, sine",
        ),
        ({"drifts": (0.0,)}, r"drift = 0.0: a distance is finite and above 0"),
        ({"drifts": (math.inf,)}, r"drift = inf: "),
        ({"drifts": ()}, r"drifts = \(\): give at least one"),
    ],
)
def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        rows(dataclasses.replace(SMALL, **change))


@pytest.mark.parametrize(
    "change",
    [{"worlds": ("bigram",)}, {"ratios": ("prefix",)}, {"directions": ("sine",)}, {"drifts": (0.4,)}],
)
def test_every_option_moves_the_numbers(change):
    start = dataclasses.replace(SMALL, directions=("uphill",))
    (before,), (after,) = rows(start), rows(dataclasses.replace(start, **change))
    assert abs(before["error_current"] - after["error_current"]) > MOVES
