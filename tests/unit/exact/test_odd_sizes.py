"""Huge V, T, G and K: every call ends soon, in a number or in a sentence with the limit and a way out."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.instances.worlds_by_hand import coin, eos_tree, odds
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import (
    Problem,
    decompose,
    expected_gradient,
    expected_return,
    gradient_moments,
    policy_gradient,
    reuse_bias,
)
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.exact.expectation import choose_method
from ticgrpo_theory.exact.fixed_points import fixed_point
from ticgrpo_theory.exact.known_scale import known_scale
from ticgrpo_theory.exact.mean.mean_path import after_steps
from ticgrpo_theory.exact.penalties.penalised import penalised_objective
from ticgrpo_theory.exact.reuse.leading_order import leading_order
from ticgrpo_theory.mdp import TokenMDP

SECONDS = 5.0
"""Processor time within which a call has to end."""

XOR = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 1.0, 1.0, 0.0])
ROWS = [[0.3, -0.2]] * 3
AHEAD = [[0.5, -0.2]] * 3
OLD = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
WIDE = TokenMDP.prefix_tree(vocab_size=10**6, horizon=1, reward=torch.arange(10**6) / 10**6)
THREE = eos_tree([1.0, 0.3, 0.0, 0.0])
IRRATIONAL = eos_tree([1.0, math.sqrt(0.5), 0.0, 0.1])


def mine(batch):
    """A black box."""
    return ((batch.logp - batch.logp_old).exp() * batch.reward[..., None]).where(batch.mask, 0.0).sum()


def chain(T: int) -> TokenMDP:
    """One token, one state: nothing is random."""
    return TokenMDP.automaton([[0]], 1, T, [1.0], rows=[0])


def counter(T: int) -> TokenMDP:
    """Counts tokens 0 modulo 3, one row for all."""
    return TokenMDP.automaton([[1, 0], [2, 1], [0, 2]], 2, T, [1.0, 0.0, 0.5], rows=[0, 0, 0])


ANSWERED: dict[str, Callable[[], Any]] = {
    **{
        f"{name}, G = {G:.0e}": lambda name=name, G=G: expected_gradient(XOR, AHEAD, ROWS, name, G)
        for name in ("grpo", "tic_grpo", "dapo", "rloo")
        for G in (10**5, 10**7, 10**9)
    },
    "grpo by enumeration, G = 1e9": lambda: expected_gradient(XOR, AHEAD, ROWS, "grpo", 10**9, "enumeration"),
    "scale, G = 1e9": lambda: known_scale(XOR, ROWS, "grpo", 10**9)[0],
    "method, G = 1e9": lambda: float(choose_method(XOR, AHEAD, ROWS, "grpo", 10**9) == "dynamic_programming"),
    "decomposition, G = 1e8": lambda: decompose(XOR, AHEAD, ROWS, "grpo", 10**8).total,
    "moments, G = 1e5": lambda: gradient_moments(XOR, AHEAD, ROWS, "grpo", 10**5).variance,
    "clipped, G = 1e9": lambda: clip_fractions(XOR, [AHEAD], ROWS, ESTIMATORS["grpo"], 10**9)[0],
    "equal rewards, G = 1e9": lambda: expected_gradient(
        TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.1, 0.1]), odds(0.5), odds(0.5), "grpo", 10**9
    ),
    "return of a chain": lambda: expected_return(chain(2**18), [[0.0]]),
    "gradient of a counter": lambda: policy_gradient(counter(10**4), [[0.3, 0.0]]),
    "mean of a counter": lambda: expected_gradient(counter(10**4), [[0.3, 0.0]], [[0.2, 0.0]], "grpo", 8),
    "long tree": lambda: policy_gradient(
        TokenMDP.prefix_tree(vocab_size=2, horizon=2_000, reward=[0.5] * 2001, eos=1), torch.zeros(2_000, 2)
    ),
}

SAMPLE_OR_INF = r"(lower|use a smaller).*G|use group_size=math.inf"
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    **{
        f"G = 1e{digits}": (
            lambda digits=digits: expected_gradient(XOR, AHEAD, ROWS, "grpo", 10**digits),
            r"group_size is beyond LARGEST_GROUP = 9,007,199,254,740,992, .* use group_size=math.inf",
        )
        for digits in (16, 30, 300)
    },
    **{
        f"three values, G = 1e{digits}": (
            lambda digits=digits: expected_gradient(THREE, OLD, OLD, "grpo", 10**digits),
            r"with 3 types .* lists [\d,]+ groups; .* MAX_WORK = 60 s .*or use group_size=math.inf$",
        )
        for digits in (6, 7, 9)
    },
    "four values, G = 5e4": (
        lambda: expected_gradient(IRRATIONAL, OLD, OLD, "grpo", 50_000),
        r"with 4 types .* group_size=math.inf or method='sampled', which draws groups$",
    ),
    "moments, G = 1e9": (
        lambda: gradient_moments(XOR, AHEAD, ROWS, "grpo", 10**9),
        r"group_size = 1,000,000,000: .* LARGEST_PAIRED = 1,048,576 .* use a smaller G",
    ),
    "moments of three values, G = 1e7": (
        lambda: gradient_moments(THREE, OLD, OLD, "grpo", 10**7),
        SAMPLE_OR_INF,
    ),
    "answers of a problem, G = 1e9": (lambda: Problem(THREE, OLD, OLD, "grpo", 10**9).mean, SAMPLE_OR_INF),
    "groups, G = 1e9": (
        lambda: expected_gradient(XOR, AHEAD, ROWS, "grpo", 10**9, "groups"),
        r"C\(N\+G-1, G\) = [\d,]+ multisets .* use method='dynamic_programming'",
    ),
    "ordered groups, G = 1e9": (
        lambda: expected_gradient(XOR, AHEAD, ROWS, mine, 10**9, symmetric=False),
        r"N\*\*G = more than 10\^30 ordered groups .*: lower N or G",
    ),
    "black box, G = 1e9": (
        lambda: expected_gradient(XOR, AHEAD, ROWS, mine, 10**9),
        r"multisets .*: lower N or G",
    ),
    "sample, G = 1e9": (
        lambda: expected_gradient(XOR, AHEAD, ROWS, "grpo", 10**9, "sampled"),
        r"up to 2,000,000,000 tokens, more than MAX_TOKENS = 131,072 .* use group_size=math.inf",
    ),
    "sample, G = 1e5": (
        lambda: expected_gradient(XOR, AHEAD, ROWS, "grpo", 10**5, "sampled"),
        r"up to 200,000 tokens, more than MAX_TOKENS",
    ),
    "reuse, G = 1e9": (
        lambda: reuse_bias(XOR, ROWS, "grpo", 10**9, 1, 0.1),
        r"G = 1000000000, K = 1\) ask for .* MAX_NUMBERS .* lower N, G or K, or sample",
    ),
    "reuse, K = 1e9": (
        lambda: reuse_bias(XOR, ROWS, "grpo", 2, 10**9, 0.1),
        r"K = 1000000000\) ask for .* lower N, G",
    ),
    "disjoint, K = 1e9": (
        lambda: reuse_bias(XOR, ROWS, "grpo", 2, 10**9, 0.1, batches="disjoint"),
        r"more than 10\^30 sequences of K\+1 groups .* lower N, G or K",
    ),
    "mean path, K = 1e9": (
        lambda: after_steps(Problem(coin(), odds(0.5), odds(0.5), "grpo", 2), 0.1, 10**9),
        r"inner_steps = 1,000,000,000: .* lower K",
    ),
    "fixed point, G = 1e16": (lambda: fixed_point(coin(), "grpo", 10**16), r"LARGEST_GROUP"),
    "sample of 1e6 logits": (
        lambda: expected_gradient(WIDE, torch.zeros(1, 10**6), torch.zeros(1, 10**6), "grpo", 4, "sampled"),
        r"S V = 1,000,000 logits, more than MAX_LOGITS = 8,192: lower the vocabulary",
    ),
    "leading order of 1e6 responses": (
        lambda: leading_order(WIDE, torch.zeros(1, 10**6), "reinforce"),
        r"N = 1,000,000 responses .* more than MAX_TABLE = 67,108,864 numbers: lower the vocabulary",
    ),
    "a million reward values": (
        lambda: expected_gradient(WIDE, torch.zeros(1, 10**6), torch.zeros(1, 10**6), "grpo", 4),
        r"with 1000000 types .* lower G or the number of reward values",
    ),
    "divergence, T = 1e5": (
        lambda: penalised_objective(counter(10**5), [[0.3, 0.0]], [[0.0, 0.0]], 0.1),
        r"T = 100,000: .* up to MAX_LAYERS = 32,768 of them; lower T",
    ),
    "chain, T = 1e7": (
        lambda: chain(10**7),
        r"horizon = 10,000,000 is more than MAX_HORIZON = 1,048,576 .* lower T",
    ),
    "chain, T = 1e400": (lambda: chain(10**400), r"is more than MAX_HORIZON"),
    "tree, V = 1, T = 1e6": (
        lambda: TokenMDP.prefix_tree(vocab_size=1, horizon=10**6, reward=[1.0]),
        r"T = 1,000,000 has more than MAX_LEVELS = 16,384 levels.*: lower T, or describe",
    ),
    "tree, V = 1e9": (
        lambda: TokenMDP.prefix_tree(vocab_size=10**9, horizon=2, reward=[1.0]),
        r"V = 1000000000, T = 2 has .* MAX_RESPONSES = [\d,]+ in all; lower V or T",
    ),
    "automaton, Q T = 1e9": (
        lambda: TokenMDP.automaton([[q] for q in range(1_000)], 1, 2**20, [1.0] * 1_000),
        r"Q T = 1,048,576,000 nodes, more than MAX_NODES = 67,108,864: lower Q or T",
    ),
    "reward of 1e7 pairs": (
        lambda: TokenMDP.automaton([[0, 0]] * 100, 2, 2**17, lambda q, n: 1.0, eos=1),
        r"called for 13,107,300 pairs of state and length, more than MAX_PATHS = .* give the rewards",
    ),
}


@pytest.fixture(autouse=True)
def in_time():
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """What is compiled on its first call is compiled before the clock runs."""
    gradient_moments(XOR, AHEAD, ROWS, "grpo", 2**16 + 1)
    for mdp, theta in ((counter(3), [[0.3, 0.0]]), (XOR, ROWS)):
        policy_gradient(mdp, theta)
        expected_gradient(mdp, theta, theta, "grpo", 3)
    for name in ("tic_grpo", "dapo", "rloo"):
        expected_gradient(XOR, AHEAD, ROWS, name, 2**16 + 1)
    decompose(XOR, AHEAD, ROWS, "grpo", 3)


@pytest.mark.parametrize("name", ANSWERED)
def test_a_huge_size_is_answered(name):
    assert bool(torch.isfinite(torch.as_tensor(ANSWERED[name]())).all())


@pytest.mark.parametrize("name", REFUSED)
def test_a_size_beyond_what_can_be_done_is_refused_at_once(name):
    call, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("name", ["grpo", "tic_grpo", "dapo"])
def test_large_groups_come_as_near_to_an_infinite_one_as_one_over_G(name):
    limit = expected_gradient(XOR, AHEAD, ROWS, name, math.inf)
    gaps = [(expected_gradient(XOR, AHEAD, ROWS, name, G) - limit).norm() * G for G in (10**5, 10**7)]
    assert float(gaps[1]) > 1e-3 and float((gaps[1] / gaps[0] - 1).abs()) < 1e-3
