"""Rows about responses that another policy drew: theta_old after a drift, or a sampler of its own."""

import dataclasses

from ticgrpo_theory.check import little_worlds, probes
from ticgrpo_theory.check.gradient_rows import Expectations, direction
from ticgrpo_theory.check.row import Row
from ticgrpo_theory.estimators import advantages, clipping, ratios, scales
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.objective import policy_gradient

SURROGATE = Estimator(ratios.token, advantages.leave_one_out(), clipping.unclipped(), scales.sequence_sum)
"""Its expectation is the gradient of the token surrogate, sum_t r_t A_t, not that of J."""

DRIFTS = (0.125, 0.5, 1.0)
"""How far theta is moved from theta_old, in logits."""


def off_policy(expectations: Expectations, tolerance: float) -> Row:
    """E[g_hat] beside grad J(theta) after three drifts, with the nearest target."""
    row = Row("unbiased_off_policy", "after a drift: E[g] = c grad J(theta), c > 0", "grad J(theta)")
    worlds = (little_worlds.ONE_LENGTH[1], little_worlds.ANY_LENGTH[0])
    found, failed, off = (
        [],
        "",
        {"grad J(theta)": 0.0, "grad J(theta_old)": 0.0, "the surrogate's gradient": 0.0},
    )
    G = 2
    for world in worlds:
        for drift in DRIFTS:
            theta = world.drifted(drift)
            try:
                E = expectations.at(world, G, theta)
            except ValueError as error:
                failed = failed or f"on {world.name}, drift {drift:g}: {error}"
                continue
            targets = (
                policy_gradient(world.mdp, theta),
                world.gradient,
                expected_gradient(world.mdp, theta, world.theta, SURROGATE, G),
            )
            each = [direction(E, target, world, G) for target in targets]
            found.append((drift, each[0]))
            for key, d in zip(off, each, strict=True):
                off[key] = max(off[key], d.degrees)
    if not found:
        return dataclasses.replace(row, detail=failed)
    drift, worst = max(found, key=lambda pair: pair[1].degrees)
    nearest = min(off, key=lambda key: off[key])
    none = off[nearest] > NEAR
    said = f"nearest target {'none' if none else nearest} ({off[nearest]:.3g} degrees at most)"
    if all(d.residual <= tolerance and d.scale > 0 for _, d in found):
        if failed:
            return dataclasses.replace(row, detail=failed)
        exact = all(abs(d.scale - 1) <= tolerance for _, d in found)
        return dataclasses.replace(
            row, holds=True, how="exact" if exact else "in direction", number=worst.degrees
        )
    return dataclasses.replace(
        row,
        holds=False,
        number=worst.degrees,
        detail=f"{worst.degrees:.3g} degrees from grad J(theta) at drift {drift:g} ({worst.place}); {said}",
        witness=f"{worst.place}, theta {drift:g} from theta_old along grad J and across it",
        cause="a token ratio, a clip or a ratio that is 1: each keeps the gradient of another objective",
        cure="fewer steps on each sample, or the ratio of whole responses, unclipped",
        reference="arXiv:2508.02833 v2, Sec. 4",
    )


NEAR = 5.0
"""Degrees within which a target is called near."""


def sampler(expectations: Expectations, tolerance: float) -> Row:
    """E[g_hat] beside grad J(theta) where the responses were drawn by another policy."""
    row = Row("sampler", "drawn by a sampler that is not theta_old: E[g] = c grad J(theta)", "grad J(theta)")
    subject = expectations.subject
    batch = probes.update(subject.prompts)
    if subject.form == "loss":
        return dataclasses.replace(row, detail="it takes no log-probabilities of the sampler (logp_sampler)")
    other = dataclasses.replace(batch, logp_sampler=batch.logp_old.where(~batch.mask, batch.logp_old - 1 / 8))
    if probes.gap(subject.weights(batch), subject.weights(other)) == 0.0:
        return dataclasses.replace(row, detail="it does not read batch.logp_sampler")
    found, failed = [], ""
    for world in (little_worlds.ONE_LENGTH[1], little_worlds.ANY_LENGTH[0]):
        for drift in DRIFTS[:2]:
            try:
                E = expectations.at(world, 2, sampler=world.drifted(drift))
            except ValueError as error:
                failed = failed or str(error)
                continue
            found.append(direction(E, world.gradient, world, 2))
    if not found:
        return dataclasses.replace(row, detail=failed)
    worst = max(found, key=lambda d: d.degrees)
    if all(d.residual <= tolerance and d.scale > 0 for d in found):
        return dataclasses.replace(
            row, holds=None if failed else True, how="in direction", number=worst.degrees, detail=failed
        )
    return dataclasses.replace(
        row,
        holds=False,
        number=worst.degrees,
        detail=f"{worst.degrees:.3g} degrees from grad J(theta) under another sampler ({worst.place})",
        cause="a correction by tokens, or one that is bounded",
        cure="the ratio of whole responses, unbounded; or the same policy for drawing and training",
    )
