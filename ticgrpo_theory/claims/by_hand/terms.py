"""The terms of Eq. 7 and Eq. 11 of one group, as printed and as corrected, in fractions.

With z = (r - mu) / E[sigma_G], T1 = E_old[1/|s|], w the ratio, on = 1 inside the clip and psi the score of a
token, each term is (1/G) sum_i sum_t of

    main               T1 z on psi_old (Eq. 7), T1 z w psi_old (Eq. 11);  corrected T1 z psi_old, T1 z w psi
    gradient_error     T1 z on (w psi - psi_old), Eq. 7 alone;             corrected without `on`
    sampling_error_1   T1 (A - z) on w psi
    sampling_error_2   (T1 - 1/|s|) A on w psi;                            corrected: subtracted
    clip_error         - T1 z (1 - on) w psi

Source: arXiv:2508.02833 v2, Eq. 7, 8 and 11.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ticgrpo_theory.claims.by_hand.interval import Interval
from ticgrpo_theory.claims.by_hand.world import ZERO, Parts, Policy, Response, Table, Weighed, scores, weighed

Terms = dict[str, Table]


@dataclass(frozen=True)
class Setting:
    """What the terms are taken in: policies, estimator, and mu, E[sigma_G] and T1 under theta_old."""

    now: Policy
    old: Policy
    parts: Parts
    horizon: int
    mean: Interval
    sigma_bar: Interval
    inverse_length: Interval


def of_group(at: Setting, group: Sequence[Response]) -> tuple[Table, Terms, Terms]:
    """(g_hat, printed terms, corrected terms)."""
    none = (ZERO, Interval.of(1))
    found = weighed(at.parts, group, at.now, at.old, none, at.horizon)
    T1, share = at.inverse_length, Fraction(1, len(group))

    def z(each: Weighed) -> Interval:
        return (each.response.reward - at.mean) / at.sigma_bar

    def added(coefficient: Callable[[Weighed, int], Interval], policy: Policy) -> Table:
        pairs = [
            (each.response, [share * coefficient(each, t) for t in range(len(each.ratios))]) for each in found
        ]
        return scores(pairs, policy)

    def on(each: Weighed, t: int) -> int:
        return int(each.on[t])

    def length(each: Weighed) -> Fraction:
        return Fraction(1, len(each.ratios))

    whole = added(lambda each, t: T1 * z(each) * each.ratios[t], at.now)
    old, old_on = (
        added(lambda each, t, f=f: T1 * z(each) * f(each, t), at.old) for f in (lambda each, t: 1, on)
    )
    whole_on = added(lambda each, t: T1 * z(each) * each.ratios[t] * on(each, t), at.now)
    first = added(lambda each, t: T1 * (each.A - z(each)) * each.ratios[t] * on(each, t), at.now)
    second = added(lambda each, t: (T1 - length(each)) * each.A * each.ratios[t] * on(each, t), at.now)
    clip = added(lambda each, t: -T1 * z(each) * each.ratios[t] * (1 - on(each, t)), at.now)
    common = {"sampling_error_1": first, "clip_error": clip}
    if at.parts.ratio == "token":
        printed = {"main": old_on, "gradient_error": minus(whole_on, old_on)}
        corrected = {"main": old, "gradient_error": minus(whole, old)}
    else:
        # Eq. 11 prints the ratio of theta with the score of theta_old.
        printed = {"main": added(lambda each, t: T1 * z(each) * each.ratios[t], at.old)}
        corrected = {"main": whole}
    g_hat = scores([(each.response, each.weights) for each in found], at.now)
    negative = [[-x for x in row] for row in second]
    return (
        g_hat,
        printed | common | {"sampling_error_2": second},
        corrected | common | {"sampling_error_2": negative},
    )


def minus(left: Table, right: Table) -> Table:
    return [[a - b for a, b in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]
