import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.definitions import World
from tests.oracles.direct_passes import (
    Bounds,
    held,
    outcome_distribution,
    prefix,
    switched_off,
    token,
    visits_of_rows,
    weights,
)
from tests.properties.strategies import Case, mdps_with_masked_tokens
from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from ticgrpo_theory.estimators import clip_table
from ticgrpo_theory.exact.dynamic import forward_backward
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds.graph import Graph
from ticgrpo_theory.worlds.kernels import BLOCK
from ticgrpo_theory.worlds.policy import pull_back

UNCLIPPED: Bounds = (-math.inf, math.inf, -math.inf, math.inf)
PPO: Bounds = (-math.inf, math.log1p(0.2), math.log1p(-0.2), math.inf)
OFF, HELD = clip_table.switched_off(PPO), clip_table.held(PPO)
RULES = st.sampled_from([(switched_off, clip_table.switched_off), (held, clip_table.held)])
"""What a weight is beyond its bounds: by definition, and as a table."""
BOUNDS = st.sampled_from(
    [
        UNCLIPPED,
        PPO,
        (-math.inf, math.log1p(0.28), -math.inf, math.log1p(0.28)),
        (-20.0, 0.37, -0.41, math.log(3)),
        (math.log1p(-0.3), 0.1, -math.inf, 0.05),
    ]
)


def f_plus(reward: float, length: int) -> float:
    return max(reward, 0.0) + length / 8


def f_minus(reward: float, length: int) -> float:
    return min(reward, 0.0) - length / 16


def nothing(reward: float, length: int) -> float:
    return 0.0


def by_outcome(f, graph: Graph) -> np.ndarray:
    return np.array([f(r, n) for r, n in zip(graph.reward.tolist(), graph.length.tolist(), strict=True)])


def every_prompt(case: Case) -> Iterator[tuple[Graph, World, np.ndarray, np.ndarray]]:
    for (_, prompt), (_, world) in zip(case.mdp.prompts, case.prompts, strict=True):
        yield prompt.graph, world, np.array(case.theta), np.array(case.theta_old)


def close(found: np.ndarray, expected: list) -> None:
    torch.testing.assert_close(torch.from_numpy(found), torch.tensor(expected, dtype=torch.float64), **EXACT)


@given(mdps_with_masked_tokens(24))
def test_the_distribution_of_reward_and_length_is_that_of_all_responses(case):
    for graph, world, theta, _ in every_prompt(case):
        found = forward_backward.outcome_distribution(graph, theta)
        for (reward, length), probability in outcome_distribution(world, case.theta).items():
            same = (graph.reward == reward) & (graph.length == length)
            assert found[same].sum() == pytest.approx(probability, abs=EXACT["atol"])
        assert found.sum() == pytest.approx(1.0, abs=EXACT["atol"])


@given(mdps_with_masked_tokens(24))
def test_rows_are_read_as_often_as_responses_read_them(case):
    for graph, world, theta, _ in every_prompt(case):
        found = np.bincount(
            graph.row, weights=forward_backward.visits(graph, theta), minlength=world.num_rows
        )
        close(found, visits_of_rows(world, case.theta))


@given(mdps_with_masked_tokens(24))
def test_value_weights_add_up_every_response_of_the_policy(case):
    for graph, world, theta, _ in every_prompt(case):
        expected = weights(
            world, case.theta, case.theta, f_plus, nothing, token, switched_off, lambda n: UNCLIPPED
        )
        value = by_outcome(f_plus, graph)
        close(forward_backward.value_weights(graph, theta, value), expected)
        gradient = pull_back(torch.tensor(expected, dtype=torch.float64), torch.from_numpy(theta))
        close(forward_backward.value_gradient(graph, theta, value), gradient.tolist())


@given(mdps_with_masked_tokens(24))
def test_prefix_weights_carry_the_ratio_of_the_prefix_and_the_old_continuation(case):
    for graph, world, theta, theta_old in every_prompt(case):
        expected = weights(
            world, case.theta, case.theta_old, f_plus, f_minus, prefix, switched_off, lambda n: UNCLIPPED
        )
        value = by_outcome(f_plus, graph) + by_outcome(f_minus, graph)
        close(forward_backward.prefix_weights(graph, theta, theta_old, value), expected)


@given(mdps_with_masked_tokens(24), BOUNDS, RULES)
def test_token_weights_are_clipped_token_by_token_and_sign_by_sign(case, bounds, rules):
    rule, table = rules[0], rules[1](bounds)
    for graph, world, theta, theta_old in every_prompt(case):
        f = by_outcome(f_plus, graph), by_outcome(f_minus, graph)
        expected = weights(world, case.theta, case.theta_old, f_plus, f_minus, token, rule, lambda n: bounds)
        found = forward_backward.token_weights(graph, theta, theta_old, *f, table)
        close(found, expected)
        gradient = pull_back(torch.tensor(expected, dtype=torch.float64), torch.from_numpy(theta))
        d = forward_backward.visits(graph, theta_old)
        pulled = forward_backward.token_gradient(graph, theta, theta_old, *f, table, visits_old=d)
        close(pulled, gradient.tolist())


def one_token(reward: list[float]) -> Graph:
    return TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=reward).graph


# pi_old = (1/2, 1/2), pi_theta = (3/4, 1/4): ratios 3/2 and 1/2.
EVEN, TILTED = np.zeros((1, 2)), np.array([[math.log(3), 0.0]])


def test_a_clip_worked_by_hand():
    graph = one_token([0.0, 0.0])

    def by_hand(plus: list[float], minus: list[float], table: clip_table.ClipTable) -> list[float]:
        f = np.array(plus), np.array(minus)
        return forward_backward.token_weights(graph, TILTED, EVEN, *f, table)[0].tolist()

    # Token 0 was good and is beyond 1.2; token 1 was bad and is below 0.8: both are switched off.
    assert by_hand([1.0, 0.0], [0.0, -1.0], OFF) == [0.0, 0.0]
    # Held: (1/2) 1.2 and -(1/2) 0.8.
    assert by_hand([1.0, 0.0], [0.0, -1.0], HELD) == pytest.approx([0.6, -0.4])
    # The other way round both are inside, and weigh pi_theta.
    assert by_hand([0.0, 1.0], [-1.0, 0.0], OFF) == pytest.approx([-0.75, 0.25])


def test_bounds_of_the_wrong_sign_would_be_seen():
    f = np.array([1.0, 0.0]), np.array([0.0, -1.0])
    swapped = (*PPO[2:], *PPO[:2])
    right, wrong = (
        forward_backward.token_weights(one_token([0.0, 0.0]), TILTED, EVEN, *f, clip_table.switched_off(b))
        for b in (PPO, swapped)
    )
    assert np.abs(right - wrong).max() > VISIBLE


def test_a_continuation_under_the_wrong_policy_would_be_seen():
    graph = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.0, 1.0]).graph
    theta, theta_old = np.zeros((3, 2)), np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    of_prefix = forward_backward.prefix_weights(graph, theta, theta_old, graph.reward)
    of_response = forward_backward.value_weights(graph, theta, graph.reward)
    assert np.abs(of_prefix - of_response).max() > VISIBLE


@pytest.mark.parametrize("gap", [1000.0, 740.0])
def test_ratios_beyond_float64_keep_their_products(gap):
    # theta puts all on token 0, theta_old all on token 1; only A < 0 is unbounded above.
    theta, theta_old = np.array([[gap, 0.0]]), np.array([[0.0, gap]])
    f = np.array([1.0, 1.0]), np.array([-1.0, -1.0])
    found = forward_backward.token_weights(one_token([0.0, 0.0]), theta, theta_old, *f, OFF)
    # Token 0: w = e^gap, on for A < 0 only. Token 1: w = e^-gap, on for A >= 0 only, where it weighs nothing.
    np.testing.assert_allclose(found, [[-1.0, 0.0]], atol=1e-300)


def test_shared_rows_at_horizon_1024_agree_with_the_closed_form():
    # (-1)^(number of ones) has mean (1 - 2 p)^T under any number of T independent tokens.
    T, p = 1024, 1e-3
    parity = TokenMDP.automaton([[0, 1], [1, 0]], 2, T, [1.0, -1.0], rows=[0, 0]).graph
    theta = np.array([[math.log((1 - p) / p), 0.0]])
    mean = float(forward_backward.outcome_distribution(parity, theta) @ parity.reward)
    assert mean == pytest.approx((1 - 2 * p) ** T, rel=1e-11)
    slope = -2 * T * (1 - 2 * p) ** (T - 1) * p * (1 - p)
    np.testing.assert_allclose(
        forward_backward.value_gradient(parity, theta, parity.reward), [[-slope, slope]], rtol=1e-10
    )


def wide_world() -> tuple[Graph, np.ndarray, np.ndarray]:
    """Layers of more logits than one chunk, successors of their own at every depth, rows of their own."""
    generator, Q, V, T = np.random.default_rng(0), 90, 200, 3
    assert Q * V > BLOCK
    moves = generator.integers(0, Q, (T, Q, V))
    graph = TokenMDP.automaton(moves, V, T, generator.normal(size=Q)).graph
    return graph, *generator.normal(size=(2, T * Q, V))


def test_layers_of_several_chunks_agree_with_dense_transition_matrices():
    graph, theta, theta_old = wide_world()
    T, Q = graph.horizon, graph.nodes(0)
    probabilities = (torch.softmax(torch.from_numpy(x), -1).numpy() for x in (theta, theta_old))
    pi, pi_old = (x.reshape(T, Q, -1) for x in probabilities)
    moves = [graph.table(t)[1] for t in range(T)]
    d, reached = np.zeros(Q), []
    d[graph.start] = 1.0
    for t in range(T):
        reached.append(d)
        d = np.bincount(moves[t].ravel(), weights=(d[:, None] * pi_old[t]).ravel(), minlength=Q)
    np.testing.assert_allclose(forward_backward.outcome_distribution(graph, theta_old), d, atol=1e-15)
    f, M = {1: np.maximum(graph.reward, 0), -1: np.minimum(graph.reward, 0)}, np.zeros((T, *pi[0].shape))
    for sign, values in f.items():
        for t in reversed(range(T)):
            w, U = pi[t] / pi_old[t], values[moves[t]]
            on = w <= 1.2 if sign == 1 else w >= 0.8
            M[t] += reached[t][:, None] * pi_old[t] * w * on * U
            values = (pi_old[t] * U).sum(axis=1)
    found = forward_backward.token_weights(graph, theta, theta_old, f[1], f[-1], OFF)
    close(found, M.reshape(found.shape).tolist())


def test_threads_change_nothing_to_the_last_bit(monkeypatch):
    graph, theta, theta_old = wide_world()
    f = np.maximum(graph.reward, 0), np.minimum(graph.reward, 0)

    def on(threads: int) -> torch.Tensor:
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        monkeypatch.setattr(forward_backward, "WORTH_THREADS", 0)
        parts = forward_backward.independent_depths(graph, theta.size)
        assert len(parts) == min(threads, graph.horizon)
        return torch.from_numpy(forward_backward.token_weights(graph, theta, theta_old, *f, OFF))

    alone = on(1)
    for threads in (2, 3, 8):
        torch.testing.assert_close(on(threads), alone, **SAME_BITS)


def test_depths_that_share_rows_are_not_split(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(forward_backward, "WORTH_THREADS", 0)
    graph = TokenMDP.automaton([[0, 1], [1, 0]], 2, 8, [1.0, -1.0], rows="state").graph
    assert forward_backward.independent_depths(graph, 4) == [(0, 8)]


def test_rows_that_the_graph_does_not_read_weigh_nothing():
    first, second = (TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1, 0, 0, 1]) for _ in range(2))
    mdp = TokenMDP.mixture([first, second], [0.5, 0.5], share_rows=False)
    theta = np.arange(12.0).reshape(6, 2) / 8
    found = forward_backward.value_weights(mdp.prompts[1][1].graph, theta, np.ones(4))
    assert found[:3].tolist() == [[0.0, 0.0]] * 3
    assert found[3:].sum() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("theta", "f", "message"),
    [
        (np.zeros((2, 2)), np.zeros(4), r"theta has shape \(2, 2\); this graph reads 3 rows of 2 logits"),
        (np.zeros((3, 3)), np.zeros(4), r"give a table \[S, V\] with S >= 3, V = 2"),
        (np.zeros((4, 2)), np.zeros(4), r"theta has shape \(4, 2\), theta_old \(3, 2\)"),
        (np.zeros((3, 2)), np.zeros(3), r"f_plus has shape \(3,\); this graph has 3 nodes and 4 outcomes"),
    ],
)
def test_tables_and_values_of_the_wrong_shape_are_refused(theta, f, message):
    graph = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=np.zeros(4)).graph
    with pytest.raises(ValueError, match=message):
        forward_backward.token_weights(graph, theta, np.zeros((3, 2)), f, np.zeros(4), OFF)


def test_a_clip_that_depends_on_the_length_is_refused():
    f, by_length = np.zeros(2), clip_table.held((-math.inf, np.array([0.1, 0.2]), -math.inf, 0.3))
    with pytest.raises(ValueError, match=r"bounds of the clip differ between 2 lengths .*'enumeration'"):
        forward_backward.token_weights(one_token([0.0, 0.0]), TILTED, EVEN, f, f, by_length)
