"""A sampler beside theta_old and theta: every method is the sum over all groups of the printed objective.

The printed objective is written with loops over responses and tokens, its corrections with the mathematics of
Python; only the sum over groups is that of the oracle.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles.by_definition import Group, Prompt, moments, reuse
from tests.properties.strategies import tables
from tests.properties.tolerances import EXACT, MOVES, VISIBLE
from tests.thinned import one_in
from ticgrpo_theory.estimators import Estimator, ratios
from ticgrpo_theory.estimators.advantages import centred, leave_one_out, standardised
from ticgrpo_theory.estimators.clipping import two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.corrections import Correction, masked, product, rejected, truncated
from ticgrpo_theory.estimators.properties import Reads, reads
from ticgrpo_theory.estimators.scales import kept, sequence_mean, sequence_sum, token_mean
from ticgrpo_theory.exact import expected_gradient, gradient_moments, policy_gradient, reuse_bias
from ticgrpo_theory.mdp import TokenMDP

RESPONSES = [(0, 0), (0, 1), (1,)]
REWARD = {(0, 0): 1.0, (0, 1): 0.0, (1,): 0.25}
MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=REWARD.__getitem__)
PROMPT = Prompt(
    1.0,
    torch.tensor([[0, 1], [0, 1], [0, 0]]),
    torch.tensor([[0, 0], [0, 1], [1, 0]]),
    torch.tensor([[True, True], [True, True], [True, False]]),
    torch.tensor([REWARD[y] for y in RESPONSES], dtype=torch.float64),
    2,
)
METHODS = ("dynamic_programming", "enumeration", "groups")


def phi(correction: Correction | None, d: list[float]) -> list[float]:
    """phi of every token, from d_t = log(pi_old / mu)."""
    if correction is None:
        return [1.0] * len(d)
    if isinstance(correction, product):
        each = [phi(factor, d) for factor in correction.factors]
        return [math.prod(column) for column in zip(*each, strict=True)]
    pooled = {
        "token": d,
        "sequence": [sum(d)] * len(d),
        "geometric": [sum(d) / len(d)] * len(d),
        "largest": [max(d)] * len(d),
    }
    lo = correction.lo or 0.0
    hi = math.inf if correction.hi is None else correction.hi
    found = []
    for W in map(math.exp, pooled[correction.level]):
        if isinstance(correction, truncated):
            found.append(min(max(W, lo), hi))
        else:
            one = W if isinstance(correction, masked) else 1.0
            found.append(one if lo <= W <= hi else 0.0)
    return found


def advantages(kind: object, r: list[float]) -> list[float]:
    mean = sum(r) / len(r)
    if isinstance(kind, leave_one_out):
        return [(x - mean) * len(r) / (len(r) - 1) for x in r]
    sd = math.sqrt(sum((x - mean) ** 2 for x in r) / len(r))
    one = sd + kind.delta if isinstance(kind, standardised) else 1.0
    return [0.0 if min(r) == max(r) else (x - mean) / one for x in r]


def scales(scale: object, lengths: list[int]) -> list[float]:
    G = sum(n > 0 for n in lengths)
    if scale is token_mean:
        return [1 / max(1, sum(lengths))] * len(lengths)
    return [1 / max(1, G) / (n if scale is sequence_mean and n else 1) for n in lengths]


def gated(v: Tensor, A: float, clip: object) -> Tensor:
    """A exp(v) where the minimum of PPO still has a derivative, else a constant."""
    w = float(v.detach().exp())
    if isinstance(clip, two_sided):
        off = w > 1 + clip.eps_high if A >= 0 else w < 1 - clip.eps_low
    else:
        off = isinstance(clip, upper_only) and w > 1 + clip.eps_high
    return torch.zeros_like(v) if off else A * v.exp()


def printed(estimator: Estimator, group: Group) -> Tensor:
    """The objective of one group, its importance weights differentiated, its corrections held."""
    total, every = torch.zeros((), dtype=torch.float64), []
    for i in range(len(group.reward)):
        T = int(group.mask[i].sum())
        assert group.logp_sampler is not None
        every.append(phi(estimator.correction, (group.logp_old - group.logp_sampler)[i, :T].tolist()))
    if isinstance(estimator.scale, kept):
        scale = scales(estimator.scale.scale, [sum(x > 0 for x in weights) for weights in every])
    else:
        scale = scales(estimator.scale, [len(weights) for weights in every])
    for i, A in enumerate(advantages(estimator.advantage, group.reward.tolist())):
        l = (group.logp - group.logp_old)[i, : len(every[i])]  # noqa: E741
        for t in range(len(l)):
            if estimator.ratio is ratios.none:
                term = A * group.logp[i, t]
            elif estimator.ratio is ratios.token:
                term = gated(l[t], A, estimator.clip)
            elif estimator.ratio is ratios.prefix:
                # Weight of the prefix, score of the token itself.
                term = A * l[: t + 1].sum().exp().detach() * group.logp[i, t]
            else:
                term = gated(l.sum().detach() + l[t] - l[t].detach(), A, estimator.clip)
            total = total + scale[i] * every[i][t] * term
    return total


CORRECTIONS = [
    None,
    *[kind("token", 0.8, 1.25) for kind in (truncated, masked, rejected)],
    *[kind("sequence", None, 1.25) for kind in (truncated, masked, rejected)],
    truncated("sequence"),
    masked("geometric", 0.9, 1.1),
    rejected("largest", None, 1.3),
    product((truncated("token", None, 1.2), rejected("sequence", 0.5, 1.5))),
]
PARTS = [
    (ratios.token, standardised(), two_sided(0.1, 0.2), sequence_mean),
    (ratios.token, leave_one_out(), unclipped(), sequence_sum),
    (ratios.none, centred(), unclipped(), token_mean),
    (ratios.prefix, leave_one_out(), unclipped(), sequence_sum),
    (ratios.trajectory, leave_one_out(), unclipped(), sequence_mean),
    (ratios.trajectory, standardised(), upper_only(0.2), sequence_sum),
    (ratios.token, centred(), unclipped(), kept(token_mean)),
    (ratios.token, centred(), unclipped(), kept(sequence_sum)),
    (ratios.none, leave_one_out(), unclipped(), kept(sequence_mean)),
]
ESTIMATORS = [
    Estimator(*parts, correction=correction)
    for parts in PARTS
    for correction in CORRECTIONS
    if correction is not None or not isinstance(parts[3], kept)
]


def double(table) -> Tensor:
    return torch.tensor(table, dtype=torch.float64)


def check(estimator: Estimator, theta: Tensor, theta_old: Tensor, sampler: Tensor, G: int = 2) -> int:
    """Every method that is exact here against the oracle; how many were."""
    mean, second = moments(
        [PROMPT], theta, theta_old, lambda group: printed(estimator, group), G, theta_sampler=sampler
    )
    answered = 0
    for method in METHODS:
        given_to = (MDP, theta, theta_old, estimator, G, method)
        try:
            found = expected_gradient(*given_to, theta_sampler=sampler)
            spread = gradient_moments(*given_to, theta_sampler=sampler)
        except ValueError as refused:
            assert "not exact" in str(refused), refused
            continue
        answered += 1
        torch.testing.assert_close(found, mean, **EXACT)
        torch.testing.assert_close(spread.mean, mean, **EXACT)
        torch.testing.assert_close(spread.second_moment, second, **EXACT)
    return answered


@given(
    estimator=st.sampled_from(ESTIMATORS),
    policies=st.tuples(tables(2, 2), tables(2, 2), tables(2, 2)),
    hidden=st.sampled_from([None, (0, 1), (1, 0), (1, 1)]),
)
def test_every_method_is_the_sum_over_all_groups(estimator, policies, hidden):
    theta, theta_old, sampler = map(double, policies)
    if hidden is not None:
        sampler[hidden] = -math.inf
    assert check(estimator, theta, theta_old, sampler) >= 1


THETA, OLD, SAMPLER = (
    double([[0.7, -0.4], [-0.1, 0.3]]),
    double([[0.2, -0.1], [0.3, 0.0]]),
    double([[0.5, -0.3], [0.0, 0.2]]),
)


@pytest.mark.parametrize("estimator", one_in(8, ESTIMATORS), ids=lambda e: e.describe())
def test_one_drift_of_every_estimator_by_every_method(estimator):
    answered = check(estimator, THETA, OLD, SAMPLER)
    simple = estimator.correction is None or estimator.correction in CORRECTIONS[1:4]
    pooled = isinstance(estimator.clip, upper_only) or isinstance(estimator.scale, kept)
    assert answered == (1 if isinstance(estimator.scale, kept) else 3 if simple and not pooled else answered)
    assert answered >= 1


def test_three_responses_and_a_sampler_that_never_ends_early():
    sampler = SAMPLER.clone()
    sampler[0, 1] = -math.inf
    estimator = Estimator(
        ratios.token, standardised(), unclipped(), token_mean, correction=truncated("token", 0.9, 1.1)
    )
    assert check(estimator, THETA, OLD, sampler, 3) == 3


LEAVE_ONE_OUT = (leave_one_out(), unclipped(), sequence_sum)
REFERENCE = [
    (Estimator(ratios.trajectory, *LEAVE_ONE_OUT), SAMPLER, [0.0751938448, 0.1802580525]),
    (Estimator(ratios.trajectory, *LEAVE_ONE_OUT), OLD, [0.0371205365, 0.2038586492]),
    (Estimator(ratios.token, *LEAVE_ONE_OUT), OLD, [0.0738070988, 0.1560859689]),
    (
        Estimator(ratios.token, *LEAVE_ONE_OUT, correction=truncated("token", None, 1.1)),
        OLD,
        [0.0727876220, 0.1500052165],
    ),
    (
        Estimator(ratios.token, *LEAVE_ONE_OUT, correction=masked("sequence", None, 1.1)),
        OLD,
        [0.0494355683, 0.1380159875],
    ),
    (
        Estimator(ratios.token, *LEAVE_ONE_OUT, correction=truncated("sequence", None, 1.1)),
        OLD,
        [0.0960732975, 0.1380159875],
    ),
]
"""(estimator, theta_old, E[g_hat] of token 0) where a right answer pays 1, of an independent enumeration."""

ONE_RIGHT = TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=lambda y: float(y == (0, 0)))


@pytest.mark.parametrize(("estimator", "theta_old", "expected"), REFERENCE, ids=lambda x: "")
def test_reference_numbers(estimator, theta_old, expected):
    answered = 0
    for method in METHODS:
        try:
            found = expected_gradient(
                ONE_RIGHT, THETA, theta_old, estimator, 2, method, theta_sampler=SAMPLER
            )
        except ValueError as refused:
            assert "not exact" in str(refused), refused
            continue
        answered += 1
        assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-10)
    assert answered >= 2


def test_the_ratio_to_the_sampler_is_unbiased_and_the_ratio_to_theta_old_is_not():
    estimator = Estimator(ratios.trajectory, *LEAVE_ONE_OUT)
    target = policy_gradient(ONE_RIGHT, THETA)
    to_sampler = expected_gradient(ONE_RIGHT, THETA, SAMPLER, estimator, 2, theta_sampler=SAMPLER)
    torch.testing.assert_close(to_sampler, target, **EXACT)
    corrected = Estimator(ratios.trajectory, *LEAVE_ONE_OUT, correction=truncated("sequence"))
    whole = expected_gradient(ONE_RIGHT, THETA, OLD, corrected, 2, theta_sampler=SAMPLER)
    torch.testing.assert_close(whole, target, **EXACT)
    ignored = expected_gradient(ONE_RIGHT, THETA, OLD, estimator, 2, theta_sampler=SAMPLER)
    assert float((ignored - target).norm()) > VISIBLE


def test_a_sampler_that_draws_less_is_answered_with_the_mass_that_it_loses():
    """Without token 1 after (0): theta draws (0, 1) with probability pi(0) pi(1 | 0)."""
    cut, on_policy = double([[0.2, -0.1], [0.3, -math.inf]]), Estimator(ratios.none, *LEAVE_ONE_OUT)
    pi = torch.softmax(OLD, dim=-1)
    for theta_old, sampler in ((OLD, cut), (cut, None)):
        for method in METHODS:
            found = expected_gradient(
                ONE_RIGHT, OLD, theta_old, on_policy, 2, method, theta_sampler=sampler, explain=True
            )
            assert found.value[:, 0].tolist() == pytest.approx([0.2444583117, 0.1040310639], abs=1e-10)
            assert found.lost_mass == pytest.approx(float(pi[0, 0] * pi[1, 1]), rel=1e-12)
    target = policy_gradient(ONE_RIGHT, OLD)
    cosine = float((found.value * target).sum() / found.value.norm() / target.norm())
    assert cosine == pytest.approx(0.92752699, abs=1e-8)


@pytest.mark.parametrize("hidden", [None, (1, 1)])
def test_a_group_that_is_used_again_comes_from_the_sampler(hidden):
    """Compared with grad J of all responses, those that the sampler never draws included."""
    sampler = SAMPLER.clone()
    if hidden is not None:
        sampler[hidden] = -math.inf
    estimator = Estimator(ratios.token, *LEAVE_ONE_OUT, correction=truncated("token", None, 1.1))
    expected = reuse([PROMPT], OLD, lambda g: printed(estimator, g), 2, 2, 0.5, theta_sampler=sampler)
    found = reuse_bias(MDP, OLD, estimator, 2, 2, 0.5, theta_sampler=sampler)
    torch.testing.assert_close(found.bias, expected.gradient - expected.target, **EXACT)
    torch.testing.assert_close(found.mse, expected.mse, **EXACT)
    other = reuse_bias(MDP, OLD, estimator, 2, 2, 0.5)
    assert float((found.bias - other.bias).norm()) > VISIBLE


def test_the_moments_and_the_reference_of_known_moments_are_those_of_what_is_drawn():
    found = expected_gradient(ONE_RIGHT, THETA, OLD, "grpo", math.inf, theta_sampler=SAMPLER)
    same = expected_gradient(ONE_RIGHT, THETA, OLD, "grpo", 4000, theta_sampler=SAMPLER)
    assert float((found - same).norm()) < 1e-3 * float(found.norm())
    other = expected_gradient(ONE_RIGHT, THETA, OLD, "grpo", math.inf)
    assert float((found - other).norm()) > VISIBLE * float(found.norm())


def half_drift(log_ratio, mask):
    """A ratio of one's own: the token ratio of half the drift."""
    return (log_ratio / 2).where(mask, 0.0)


@reads(Reads.OWN_TOKEN)
def claimed_half_drift(log_ratio, mask):
    return (log_ratio / 2).where(mask, 0.0)


@pytest.mark.parametrize("ratio", [half_drift, claimed_half_drift])
@pytest.mark.parametrize("correction", CORRECTIONS[1:], ids=repr)
def test_a_ratio_of_ones_own_is_corrected_too(ratio, correction):
    """Response by response, its claim checked, and over all groups: the same number, not that of W = 1."""
    estimator = Estimator(ratio, *LEAVE_ONE_OUT, correction=correction)
    each, groups = (
        expected_gradient(MDP, THETA, OLD, estimator, 2, method, theta_sampler=SAMPLER)
        for method in ("enumeration", "groups")
    )
    torch.testing.assert_close(each, groups, **EXACT)
    other = expected_gradient(MDP, THETA, OLD, estimator, 2, "groups")
    assert float((groups - other).norm()) > MOVES
