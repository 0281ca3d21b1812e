import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.direct_passes import (
    Bounds,
    geometric_mean,
    trajectory,
    weights,
)
from tests.properties.strategies import Case, eighths, sizes, tables, trees
from tests.properties.tolerances import EXACT, VISIBLE
from tests.unit.exact.dynamic.test_forward_backward import RULES, by_outcome, close, f_minus, f_plus
from ticgrpo_theory.estimators.clip_table import OPEN, held, switched_off
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.exact.tree import tree_sums
from ticgrpo_theory.exact.tree.tree_kernels import TILE
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds.graph import Tree

UPPER = switched_off((-math.inf, math.log1p(0.28), -math.inf, math.log1p(0.28)))
BY_SIGN = switched_off((-math.inf, math.log1p(0.28), math.log1p(-0.2), math.inf))
BOUNDS = st.sampled_from([UPPER.bounds, BY_SIGN.bounds, OPEN.bounds, (-20.0, 0.37, -0.41, math.log(3))])


@st.composite
def trees_with_two_policies(draw) -> Case:
    """A prefix tree of V <= 4, T <= 4 and two tables of logits, some tokens masked in theta or in both."""
    definition = draw(sizes(64).flatmap(lambda size: trees(*size)))
    vocab_size = definition.world.vocab_size
    theta, theta_old = (draw(tables(definition.num_rows, vocab_size)) for _ in range(2))
    for row, row_old in zip(theta, theta_old, strict=True):
        masked = draw(st.sampled_from(["nothing"] * 3 + ["theta", "both"]))
        a = draw(st.integers(0, len(row) - 1))
        if masked != "nothing" and len(row) > 1:
            row[a] = -math.inf
            row_old[a] = -math.inf if masked == "both" else row_old[a]
    return Case(definition, theta, theta_old)


def trajectory_weights(tree: Tree, theta, theta_old, f_plus, f_minus, table, out=None):
    """The pass with the exponent 1."""
    exponent = np.ones(tree.horizon + 1)
    return tree_sums.response_weights(tree, theta, theta_old, f_plus, f_minus, table, exponent, out)


def geometric_mean_weights(tree: Tree, theta, theta_old, f_plus, f_minus, table):
    """The pass with the exponent 1/|y|, as tree_weights.py asks for it."""
    exponent = 1.0 / np.maximum(np.arange(tree.horizon + 1), 1)
    return tree_sums.response_weights(tree, theta, theta_old, f_plus, f_minus, table, exponent)


def longer_is_looser(bounds: Bounds, slope: float, length: int) -> Bounds:
    lo_plus, hi_plus, lo_minus, hi_minus = bounds
    more = slope * math.sqrt(length)
    return lo_plus - more, hi_plus + more, lo_minus - more, hi_minus + more


@pytest.mark.parametrize(
    ("pool", "pass_of"),
    [(trajectory, trajectory_weights), (geometric_mean, geometric_mean_weights)],
)
@given(trees_with_two_policies(), BOUNDS, eighths(0, 1), RULES, st.sampled_from([1, 4, 2**16]))
def test_weights_of_responses_are_clipped_by_sign_and_length(
    pool, pass_of, case, bounds, slope, rules, block
):
    graph, world, theta, theta_old = case.mdp.graph, case.definition.world, case.theta, case.theta_old

    def at(length: int) -> Bounds:
        return longer_is_looser(bounds, slope, length)

    expected = weights(world, theta, theta_old, f_plus, f_minus, pool, rules[0], at)
    f = by_outcome(f_plus, graph), by_outcome(f_minus, graph)
    by_length = rules[1](tuple(np.array([at(n) for n in range(graph.horizon + 1)]).T))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_sums, "BLOCK_LEAVES", block)
        found = pass_of(graph, np.array(theta), np.array(theta_old), *f, by_length)
    close(found, expected)


# Two tokens, EOS is token 1: responses (0,0), (0,1), (1).
EVEN = np.zeros((2, 2))
TILTED = np.array([[math.log(3), 0.0], [0.0, math.log(3)]])


def small_tree() -> Tree:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 0.0, 0.0], eos=1).graph


def test_a_clip_of_whole_responses_worked_by_hand():
    # P: (0,0) 3/16, (0,1) 9/16, (1) 1/4; P_old: 1/4, 1/4, 1/2; w' = 3/4, 9/4, 1/2.
    f = np.array([1.0, 1.0, 1.0]), np.array([-4.0, -4.0, -4.0])
    bounds = (-math.inf, math.log(2), math.log(0.6), math.inf)
    found = trajectory_weights(small_tree(), TILTED, EVEN, *f, switched_off(bounds))
    # A >= 0 loses (0,1); A < 0 loses (1): (0,0) 3/16 (1 - 4), (0,1) 9/16 (-4), (1) 1/4.
    np.testing.assert_allclose(found, [[-9 / 16 - 36 / 16, 1 / 4], [-9 / 16, -36 / 16]], rtol=1e-14)
    still = trajectory_weights(small_tree(), TILTED, EVEN, *f, held(bounds))
    # Held: (0,1) adds 1/4 2, and (1) adds -4 (1/2) 0.6.
    np.testing.assert_allclose(still, [[-9 / 16 - 28 / 16, -0.95], [-9 / 16, -28 / 16]], rtol=1e-14)


def test_a_geometric_mean_worked_by_hand():
    # s: (0,0) sqrt(3/4), (0,1) 3/2, (1) 1/2.
    f = np.array([1.0, 1.0, 1.0]), np.zeros(3)
    bounds = (-math.inf, math.log(1.4), -math.inf, math.log(1.4))
    found = geometric_mean_weights(small_tree(), TILTED, EVEN, *f, switched_off(bounds))
    root = math.sqrt(3 / 4) / 4
    np.testing.assert_allclose(found, [[root, 1 / 4], [root, 0.0]], rtol=1e-14)


def test_clipping_token_by_token_would_be_seen():
    graph = small_tree()
    f = np.array([1.0, 1.0, 1.0]), np.array([-4.0, -4.0, -4.0])
    whole = trajectory_weights(graph, TILTED, EVEN, *f, BY_SIGN)
    each = forward_backward.token_weights(graph, TILTED, EVEN, *f, BY_SIGN)
    assert np.abs(whole - each).max() > VISIBLE


def test_bounds_of_another_length_would_be_seen():
    f = np.array([1.0, 1.0, 1.0]), np.zeros(3)

    def bounded(by_length: list[float]) -> np.ndarray:
        bounds = (-math.inf, np.array(by_length), -math.inf, np.array(by_length))
        return trajectory_weights(small_tree(), TILTED, EVEN, *f, switched_off(bounds))

    assert np.abs(bounded([0.0, 0.0, 1.0]) - bounded([0.0, 1.0, 0.0])).max() > VISIBLE


@pytest.mark.parametrize("pass_of", [trajectory_weights, geometric_mean_weights])
@pytest.mark.parametrize("eos", [None, 0])
def test_logits_of_a_thousand_give_the_limit_and_no_nan(pass_of, eos):
    # Every row: theta certain of token 1, theta_old of token 0; w' of (1,1) is beyond float64.
    graph = TokenMDP.prefix_tree(
        vocab_size=2, horizon=2, reward=np.zeros(4 if eos is None else 3), eos=eos
    ).graph
    rows = int(graph.node_start[-1])
    theta, theta_old = np.tile([-1000.0, 1000.0], (rows, 1)), np.tile([1000.0, -1000.0], (rows, 1))
    ones = np.ones(graph.num_responses)
    found = pass_of(graph, theta, theta_old, ones, -ones, BY_SIGN)
    assert np.isfinite(found).all()
    if pass_of is trajectory_weights:
        # Only A < 0, unbounded above, keeps (1,1), with P_theta = 1; all else weighs P_theta = 0.
        expected = np.zeros((rows, 2))
        expected[0, 1] = expected[-1, 1] = -1.0
        assert found.tolist() == expected.tolist()
    else:
        assert np.abs(found).max() < 1e-300


def test_a_response_of_one_token_keeps_its_geometric_mean_where_theta_old_underflows():
    graph = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0, 0.0]).graph
    theta, theta_old = np.array([[0.0, 1000.0]]), np.array([[1000.0, 0.0]])
    found = geometric_mean_weights(graph, theta, theta_old, np.ones(2), -np.ones(2), BY_SIGN)
    assert found.tolist() == [[0.0, -1.0]]


def test_a_long_chain_has_geometric_lengths():
    # V = 2 with EOS: one prefix of each length. With f = 1 and no clip, M is P_theta itself.
    T, q = 300, 0.01
    graph = TokenMDP.prefix_tree(vocab_size=2, horizon=T, reward=np.zeros(T + 1), eos=0).graph
    theta = np.tile([math.log(q), math.log1p(-q)], (T, 1))
    ones = np.ones(T + 1)
    found = trajectory_weights(graph, theta, np.zeros((T, 2)), ones, 0 * ones, OPEN)
    reached = (1 - q) ** np.arange(T)
    np.testing.assert_allclose(found, np.stack([q * reached, (1 - q) * reached], axis=1), rtol=1e-12)


def test_a_tree_of_many_blocks_agrees_with_the_sum_over_layers():
    generator = np.random.default_rng(0)
    graph = TokenMDP.prefix_tree(vocab_size=3, horizon=11, reward=np.zeros(3**11)).graph
    assert 3**11 > 2 * tree_sums.BLOCK_LEAVES > TILE
    theta, theta_old = generator.normal(size=(2, int(graph.node_start[-1]), 3))
    f = generator.normal(size=3**11)
    found = trajectory_weights(graph, theta, theta_old, f, 0 * f, OPEN)
    expected = forward_backward.value_weights(graph, theta, f)
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(expected), **EXACT)


@pytest.mark.parametrize("eos", [None, 2])
def test_one_f_for_either_sign_and_a_table_for_the_result(eos):
    generator, V, T = np.random.default_rng(0), 4, 5
    count = V**T if eos is None else 3**T + sum(3**t for t in range(T))
    graph = TokenMDP.prefix_tree(vocab_size=V, horizon=T, reward=np.zeros(count), eos=eos).graph
    theta, theta_old = generator.normal(size=(2, int(graph.node_start[-1]), V))
    f, out = generator.normal(size=count), np.full(theta.shape, np.nan)
    split = np.maximum(f, 0), np.minimum(f, 0)
    expected = trajectory_weights(graph, theta, theta_old, *split, UPPER)
    found = trajectory_weights(graph, theta, theta_old, f, None, UPPER, out=out)
    assert found is out
    torch.testing.assert_close(torch.from_numpy(out), torch.from_numpy(expected), **EXACT)


def test_rows_of_other_prompts_weigh_nothing():
    graph = small_tree()
    beyond = np.ones((2, 2))
    theta, theta_old = np.concatenate([TILTED, beyond]), np.concatenate([EVEN, beyond])
    f = np.ones(3), -np.ones(3)
    found = trajectory_weights(graph, theta, theta_old, *f, UPPER)
    alone = trajectory_weights(graph, TILTED, EVEN, *f, UPPER)
    assert found.tolist() == [*alone.tolist(), [0.0, 0.0], [0.0, 0.0]]


def test_a_result_of_another_shape_is_refused():
    f = np.zeros(3)
    with pytest.raises(ValueError, match=r"out has shape \(1, 2\) .* the shape of theta, \(2, 2\)"):
        trajectory_weights(small_tree(), EVEN, EVEN, f, f, UPPER, out=np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("theta", "f", "message"),
    [
        (np.zeros((1, 2)), np.zeros(3), r"theta has shape \(1, 2\); this tree reads 2 rows of 2 logits"),
        (np.zeros((2, 3)), np.zeros(3), r"give a table \[S, V\] with S >= 2, V = 2"),
        (
            np.zeros((2, 2)),
            np.zeros(4),
            r"f_plus has shape \(4,\); give one number for each of the 3 responses",
        ),
    ],
)
def test_tables_and_values_of_the_wrong_shape_are_refused(theta, f, message):
    with pytest.raises(ValueError, match=message):
        trajectory_weights(small_tree(), theta, EVEN, f, np.zeros(3), UPPER)
