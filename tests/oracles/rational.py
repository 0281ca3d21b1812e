"""Exact fractions, for worlds whose logits are logarithms of integers.

`integers[s][a]` are positive integers and pi(a|s) = integers[s][a] / sum_b integers[s][b]. Rewards are
integers or `Fraction`s. Standardised advantages need a square root, so only the estimators with raw, centred
or leave-one-out advantages are here.
"""

import math
from fractions import Fraction

from tests.oracles.definitions import Groups, World, multiset_groups

Integers = list[list[int]]
Rational = list[list[Fraction]]
RationalGroup = list[tuple[list[Fraction], list[Fraction], Fraction]]


def logits_of(integers: Integers) -> list[list[float]]:
    """theta[s][a] = log integers[s][a], the same policy in floats."""
    return [[math.log(n) for n in row] for row in integers]


def rational_policy(integers: Integers) -> Rational:
    """pi(a|s) = n_a / sum_b n_b."""
    return [[Fraction(n, sum(row)) for n in row] for row in integers]


def rational_token_probabilities(world: World, integers: Integers) -> Rational:
    """pi(a[i,t] | s[i,t-1]) for every response i and token t."""
    pi = rational_policy(integers)
    return [[pi[s][a] for a, s in zip(tokens, rows, strict=True)] for tokens, rows, _ in world.responses]


def rational_probability(world: World, integers: Integers, i: int) -> Fraction:
    """P(tau_i) = prod_t pi(a[i,t] | s[i,t-1])."""
    return math.prod(rational_token_probabilities(world, integers)[i], start=Fraction(1))


def rational_expected_return(world: World, integers: Integers) -> Fraction:
    """J = sum_i P(tau_i) r_i."""
    every = enumerate(world.responses)
    return sum(
        (rational_probability(world, integers, i) * Fraction(r) for i, (_, _, r) in every), Fraction(0)
    )


def _add_scores(total: Rational, world: World, i: int, weights: list[Fraction], pi: Rational) -> None:
    tokens, rows, _ = world.responses[i]
    for a, s, c in zip(tokens, rows, weights, strict=True):
        for b in range(world.vocab_size):
            total[s][b] += c * ((a == b) - pi[s][b])


def rational_policy_gradient(world: World, integers: Integers) -> Rational:
    """grad J = sum_i P(tau_i) r_i sum_t (e_a - pi(.|s))."""
    total = [[Fraction(0)] * world.vocab_size for _ in range(world.num_rows)]
    pi = rational_policy(integers)
    for i, (tokens, _, reward) in enumerate(world.responses):
        c = rational_probability(world, integers, i) * Fraction(reward)
        _add_scores(total, world, i, [c] * len(tokens), pi)
    return total


def _leave_one_out(rewards: list[Fraction]) -> list[Fraction]:
    total, others = sum(rewards, Fraction(0)), len(rewards) - 1
    return [r - (total - r) / others for r in rewards]


def _trajectory_is(group: RationalGroup, horizon: int) -> Rational:
    weights = []
    for (p, p_old, _), A in zip(group, _leave_one_out([r for _, _, r in group]), strict=True):
        weights.append([math.prod(p) / math.prod(p_old) * A / len(group)] * len(p))
    return weights


def _prefix_is(group: RationalGroup, horizon: int) -> Rational:
    weights = []
    for (p, p_old, _), A in zip(group, _leave_one_out([r for _, _, r in group]), strict=True):
        w, row = Fraction(1), []
        for new, old in zip(p, p_old, strict=True):
            w *= new / old
            row.append(w * A / len(group))
        weights.append(row)
    return weights


def _dr_grpo(
    group: RationalGroup,
    horizon: int,
    eps_low: Fraction = Fraction(1, 5),
    eps_high: Fraction = Fraction(1, 5),
) -> Rational:
    mean = sum((r for _, _, r in group), Fraction(0)) / len(group)
    weights = []
    for p, p_old, reward in group:
        row = []
        for new, old in zip(p, p_old, strict=True):
            w, A = new / old, reward - mean
            off = w > 1 + eps_high if A >= 0 else w < 1 - eps_low
            row.append(Fraction(0) if off else w * A / (len(group) * horizon))
        weights.append(row)
    return weights


def _rloo(group: RationalGroup, horizon: int) -> Rational:
    advantages = _leave_one_out([r for _, _, r in group])
    return [[A / len(group)] * len(p) for (p, _, _), A in zip(group, advantages, strict=True)]


def _reinforce(group: RationalGroup, horizon: int) -> Rational:
    return [[reward / len(group)] * len(p) for p, _, reward in group]


RATIONAL_WEIGHTS = {
    "trajectory_is": _trajectory_is,
    "prefix_is": _prefix_is,
    "dr_grpo": _dr_grpo,
    "rloo": _rloo,
    "reinforce": _reinforce,
}


def rational_expected_gradient(
    world: World,
    integers: Integers,
    integers_old: Integers,
    name: str,
    G: int,
    groups: Groups = multiset_groups,
    **params: Fraction,
) -> Rational:
    """E[g_hat] = sum over groups of P_old(group) sum_it c[i,t] (e_a - pi(.|s)), as fractions."""
    p, p_old = (rational_token_probabilities(world, n) for n in (integers, integers_old))
    pi = rational_policy(integers)
    total = [[Fraction(0)] * world.vocab_size for _ in range(world.num_rows)]
    for members, weight in groups([math.prod(row) for row in p_old], G):
        group = [(p[i], p_old[i], Fraction(world.responses[i][2])) for i in members]
        for i, c in zip(members, RATIONAL_WEIGHTS[name](group, world.horizon, **params), strict=True):
            _add_scores(total, world, i, [weight * x for x in c], pi)
    return total
