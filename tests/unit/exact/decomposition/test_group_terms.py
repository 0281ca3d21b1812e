"""Every term of Eq. 7 and Eq. 11 by loops over a group, as averages over groups, and what has none."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.instances.decomposed_world import BOTH, EQ7, OLD, THETA, TREE, every_group
from tests.oracles.definitions import (
    GroupGradient,
    add_scores,
    multiset_groups,
    policy,
    probabilities,
    token_logps,
    tree_world,
    zeros,
)
from tests.properties.strategies import Case, eighths, mdps_with_masked_tokens, single, tables
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import population, standardised
from ticgrpo_theory.estimators.catalogue import FIRST, grpo, tic_grpo, tic_grpo_eq11
from ticgrpo_theory.estimators.clipping import two_sided, unclipped, upper_only
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.ratios import token, trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import decompose, expected_gradient
from ticgrpo_theory.exact.decomposition.group_terms import decompose_group
from ticgrpo_theory.exact.decomposition.terms import TERMS
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.mdp import TokenMDP

# An example is a few decompositions with checked signatures, so there are fewer of them than elsewhere.
FEW = settings(max_examples=25)

# Every term by loops over one group


def by_loops(world, theta, theta_old, members, number, eps_low, eps_high, delta):
    """(corrected, printed): the terms of Eq. `number`, repaired and as in the paper, with their signs."""
    G = len(members)
    P, rewards = probabilities(world, theta_old), [reward for _, _, reward in world.responses]
    mu = math.fsum(p * r for p, r in zip(P, rewards, strict=True))
    T1 = math.fsum(p / len(tokens) for p, (tokens, _, _) in zip(P, world.responses, strict=True))
    sigma_bar = 0.0
    for others, weight in multiset_groups(P, G):
        drawn = [rewards[i] for i in others]
        if max(drawn) > min(drawn):
            sigma_bar += weight * math.sqrt(sum((r - sum(drawn) / G) ** 2 for r in drawn) / G)
    drawn = [rewards[i] for i in members]
    mu_G = sum(drawn) / G
    sigma_G = math.sqrt(sum((r - mu_G) ** 2 for r in drawn) / G) if max(drawn) > min(drawn) else None
    logp, logp_old = token_logps(world, theta), token_logps(world, theta_old)
    pi, pi_old = policy(theta), policy(theta_old)
    corrected, printed = ({name: zeros(world) for name in TERMS} for _ in range(2))
    for i in members:
        response, length = world.responses[i], len(logp[i])
        A = 0.0 if sigma_G is None else (rewards[i] - mu_G) / (sigma_G + delta)
        z = (rewards[i] - mu) / sigma_bar
        ratios = [math.exp(a - b) for a, b in zip(logp[i], logp_old[i], strict=True)]
        if number == 11:
            ratios = [math.exp(sum(logp[i]) - sum(logp_old[i]))] * length
        for t, w in enumerate(ratios):
            above, below = w > 1 + eps_high, w < 1 - eps_low
            on = 1.0 if not (above if number == 11 or A >= -1e-12 else below) else 0.0

            def put(terms, name, coefficient, score, response=response, t=t, length=length):
                weights = [0.0] * length
                weights[t] = coefficient / G
                add_scores(terms[name], response, weights, score)

            for terms in (corrected, printed):
                put(terms, "sampling_error_1", T1 * (A - z) * on * w, pi)
                put(terms, "clip_error", -T1 * z * (1 - on) * w, pi)
            put(corrected, "sampling_error_2", -(T1 - 1 / length) * A * on * w, pi)
            put(printed, "sampling_error_2", (T1 - 1 / length) * A * on * w, pi)
            if number == 7:
                for terms, gate in ((corrected, 1.0), (printed, on)):
                    put(terms, "main", T1 * z * gate, pi_old)
                    put(terms, "gradient_error", T1 * z * gate * w, pi)
                    put(terms, "gradient_error", -T1 * z * gate, pi_old)
            else:
                put(corrected, "main", T1 * z * w, pi)
                put(printed, "main", T1 * z * w, pi_old)
    return corrected, printed


@st.composite
def single_prompts(draw) -> Case:
    """A tree whose responses differ in length and reward, and two policies."""
    V, eos = draw(st.sampled_from([(2, 0), (2, 1), (2, None), (3, 2)]))
    T = 2 if V == 3 else draw(st.integers(2, 3))
    blank = tree_world(V, T, lambda tokens: 0.0, eos)
    rewards = {tokens: draw(eighths(-1, 1)) for tokens, _, _ in blank.responses}
    rewards[blank.responses[0][0]] = 1.125
    world = tree_world(V, T, rewards.__getitem__, eos)
    build = partial(TokenMDP.prefix_tree, vocab_size=V, horizon=T, reward=rewards.__getitem__, eos=eos)
    theta, theta_old = (draw(tables(world.num_rows, V)) for _ in range(2))
    return Case(single(build, world, world.num_rows), theta, theta_old)


@FEW
@given(single_prompts(), st.sampled_from([7, 11]), st.data(), st.sampled_from([0.0, 0.125]))
def test_every_term_is_what_loops_over_the_group_give(case, number, data, delta):
    world = case.definition.world
    group = data.draw(st.lists(st.integers(0, len(world.responses) - 1), min_size=2, max_size=3))
    # Ratios of logits in eighths do not meet these ends.
    eps_low, eps_high = 0.21, 0.27
    estimator = grpo(eps_low, eps_high, delta) if number == 7 else tic_grpo_eq11(eps_high, delta)
    found = decompose_group(case.mdp, case.theta, case.theta_old, estimator, group)
    expected = by_loops(world, case.theta, case.theta_old, group, number, eps_low, eps_high, delta)
    for terms, wanted in zip((found.terms, found.printed_terms), expected, strict=True):
        for name in TERMS:
            torch.testing.assert_close(terms[name], torch.tensor(wanted[name], dtype=torch.float64), **EXACT)
    names = {7: "grpo", 11: "tic_grpo_eq11"}
    params = {"eps_high": eps_high, "delta": delta} | ({"eps_low": eps_low} if number == 7 else {})
    g_hat = GroupGradient(world, case.theta, case.theta_old, names[number], params)(tuple(group))
    torch.testing.assert_close(found.total, torch.tensor(g_hat, dtype=torch.float64), **EXACT)


# Expectations


@st.composite
def decomposable(draw) -> Estimator:
    """grpo or tic_grpo_eq11 with drawn parameters."""
    delta, high = draw(st.sampled_from([0.0, 0.125])), draw(st.sampled_from([0.05, 0.27, 0.9]))
    return draw(st.sampled_from([grpo(0.21, high, delta), tic_grpo_eq11(high, delta)]))


@FEW
@given(mdps_with_masked_tokens(largest=8), decomposable(), st.sampled_from([2, 3, 8, math.inf]))
def test_corrected_terms_add_up_in_expectation(case, estimator, G):
    found = decompose(case.mdp, case.theta, case.theta_old, estimator, G)
    total = expected_gradient(case.mdp, case.theta, case.theta_old, estimator, G)
    torch.testing.assert_close(found.total, total, **EXACT)
    torch.testing.assert_close(sum(found.terms.values()), found.total, **EXACT)
    assert found.residual_corrected < 1e-11
    assert tuple(found.terms) == tuple(found.printed_terms) == TERMS


@FEW
@given(single_prompts(), decomposable(), st.integers(2, 3))
def test_expected_terms_are_the_averages_over_all_groups(case, estimator, G):
    found = decompose(case.mdp, case.theta, case.theta_old, estimator, G)
    prob, total, each = every_group(case.mdp, case.theta, case.theta_old, estimator, G)
    averaged = each.map(lambda x: torch.einsum("m,msv->sv", prob, x))
    torch.testing.assert_close(float(prob.sum()), 1.0, **EXACT)
    torch.testing.assert_close(torch.einsum("m,msv->sv", prob, total), found.total, **EXACT)
    for name in TERMS:
        torch.testing.assert_close(averaged.corrected[name], found.terms[name], **EXACT)
        torch.testing.assert_close(averaged.printed[name], found.printed_terms[name], **EXACT)
    assert float((total - sum(each.corrected.values())).abs().max()) < 1e-11


@BOTH
def test_a_large_group_clips_as_an_infinite_one(estimator):
    """The sign of A is then that of r - mu, so that the clip error differs by sigma_bar alone."""
    errors = []
    for G in (256, math.inf):
        found = decompose(TREE, THETA, OLD, estimator, G)
        errors.append(found.constants[0].sigma_bar * found.terms["clip_error"])
    torch.testing.assert_close(*errors, **EXACT)
    assert errors[1].norm() > VISIBLE


@BOTH
def test_an_advantage_of_zero_is_clipped_as_a_positive_one_however_it_is_rounded(estimator):
    """The mean of 0.1, 0.2 and 0.3 rounds above 0.2; that of 0, 1/2 and 1, the same up to scale, is exact."""
    worlds = [
        TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=reward, eos=1)
        for reward in ([0.1, 0.2, 0.3, 0.2], [0.0, 0.5, 1.0, 0.5])
    ]
    alone = [decompose_group(mdp, THETA, OLD, estimator, (0, 1, 2)) for mdp in worlds]
    expected = [decompose(mdp, THETA, OLD, estimator, 3) for mdp in worlds]
    for rounded, exact in (alone, expected):
        for name in TERMS:
            torch.testing.assert_close(rounded.terms[name], exact.terms[name], **EXACT)
            torch.testing.assert_close(rounded.printed_terms[name], exact.printed_terms[name], **EXACT)


@BOTH
def test_chunks_of_responses_give_the_same_terms(estimator, monkeypatch):
    expected = decompose(TREE, THETA, OLD, estimator, 3)
    monkeypatch.setattr(enumeration, "CHUNK", 3)
    found = decompose(TREE, THETA, OLD, estimator, 3)
    for name in TERMS:
        torch.testing.assert_close(found.terms[name], expected.terms[name], **EXACT)
        torch.testing.assert_close(found.printed_terms[name], expected.printed_terms[name], **EXACT)


# What is refused


WITHOUT = sorted(set(FIRST) - {"grpo", "tic_grpo_eq11"})
VARIED = [
    Estimator(token, population(), two_sided(0.2, 0.2), sequence_mean),
    Estimator(token, standardised(ddof=1), two_sided(0.2, 0.2), sequence_mean),
    Estimator(token, standardised(), unclipped(), sequence_mean),
    Estimator(token, standardised(), upper_only(0.2), sequence_mean),
    Estimator(trajectory, standardised(), two_sided(0.2, 0.2), sequence_mean),
    Estimator(token, standardised(), two_sided(0.2, 0.2), sequence_mean, score=old),
    tic_grpo(),
    lambda batch: batch.logp.sum(),
]


@pytest.mark.parametrize("estimator", [*WITHOUT, *VARIED])
def test_estimators_without_a_decomposition_are_told_which_have_one(estimator):
    words = r"no decomposition is stated .* Eq. 7 is that of 'grpo' .* Eq. 11 that of 'tic_grpo_eq11'"
    with pytest.raises(ValueError, match=words):
        decompose(TREE, THETA, OLD, estimator, 2)
    with pytest.raises(ValueError, match=words):
        decompose_group(TREE, THETA, OLD, estimator, (0, 1))


def test_a_penalty_has_no_decomposition():
    penalised = Estimator(token, standardised(), two_sided(0.2, 0.2), sequence_mean, penalty=kl_loss(k3, 0.1))
    with pytest.raises(ValueError, match="the current score and no penalty"):
        decompose(TREE, THETA, OLD, penalised, 2)


@pytest.mark.parametrize(
    "group, words",
    [
        ((0,), "group_size = 1: .* give group_size >= 2"),
        ((0, 4), r"4 is no index into mdp.responses: give 0..3"),
        ((0, -1), r"-1 is no index"),
        (((0, 0, 0), (1, 1)), r"\(1, 1\) is not a response of this world, which has 4"),
    ],
)
def test_groups_that_are_none_are_refused(group, words):
    with pytest.raises(ValueError, match=words):
        decompose_group(TREE, THETA, OLD, EQ7, group)


def test_a_response_that_theta_old_never_draws_is_refused():
    masked = [[0.2, -0.1], [0.3, -math.inf], [-0.2, 0.4]]
    with pytest.raises(ValueError, match=r"\(0, 1\) has probability zero under theta_old"):
        decompose_group(TREE, masked, masked, EQ7, (0, 2))


@BOTH
def test_groups_of_one_and_of_several_prompts_are_refused(estimator):
    with pytest.raises(ValueError, match=r"group_size = 1: .* E.sigma_G., which is 0"):
        decompose(TREE, THETA, OLD, estimator, 1)
    mixed = TokenMDP.mixture([TREE, TREE], [0.5, 0.5], share_rows=True)
    with pytest.raises(ValueError, match=r"2 prompts .* mdp.prompts\[q\]\[1\]"):
        decompose_group(mixed, THETA, OLD, estimator, (0, 1))


@BOTH
def test_ratios_that_overflow_are_refused(estimator):
    never = [[-730.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="ratio overflows float64"):
        decompose(TREE, THETA, never, estimator, 2)
