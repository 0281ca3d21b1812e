"""Learning curves of several estimators on the same random numbers, with intervals of what parts them.

Replicate r of every run draws with the same uniform numbers: as long as two runs have the same policy they
see the same responses, and their difference has less noise than either.

Paper: arXiv:2508.02833 v2, Algorithms 1 and 2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.resolve import AnyEstimator
from ticgrpo_theory.simulate.algorithm import simulate
from ticgrpo_theory.simulate.settings import Adam
from ticgrpo_theory.stats.intervals import interval
from ticgrpo_theory.worlds.mdp import TokenMDP


@dataclass(frozen=True)
class Course:
    """What all runs of a comparison share."""

    group_size: int
    inner_steps: int
    outer_steps: int
    replicates: int
    seed: int
    batches: str = "reused"
    record_every: int = 1
    optimizer: Adam | None = None


def returns(
    mdp: TokenMDP, theta: Float[Tensor, "S V"], estimator: AnyEstimator, learning_rate: float, course: Course
) -> Float[Tensor, "R L"]:
    """J(theta_n,0) of every replicate at the recorded steps, and J(theta_N,0) last. NaN where frozen."""
    trace = simulate(mdp, theta, estimator, learning_rate=learning_rate, **vars(course))
    # A frozen replicate keeps the policy that it did not survive; that is not where the algorithm led.
    final = trace.final_return.where(trace.frozen < 0, math.nan)
    return torch.cat([trace.expected_return, final[:, None]], dim=1)


def recorded(course: Course) -> list[int]:
    """The n of `returns`."""
    return [*range(0, course.outer_steps, course.record_every), course.outer_steps]


def compared(
    mdp: TokenMDP,
    theta: Float[Tensor, "S V"],
    runs: Mapping[str, tuple[AnyEstimator, float]],
    course: Course,
    reference: str,
) -> list[dict[str, Any]]:
    """One row for each run (name: estimator, learning rate) and recorded n, means over replicates.

        n              outer steps done
        J              mean of J(theta_n,0)
        gap            mean of J(theta_n,0) - J of the reference at n, replicate by replicate
        mean_gap       mean over the records up to n of the same difference
        ..._half       half-widths of their 95 % intervals

    Raises ValueError where a replicate was frozen.
    """
    found = {name: returns(mdp, theta, *run, course) for name, run in runs.items()}
    steps = recorded(course)
    count = torch.arange(1, len(steps) + 1, dtype=torch.float64)
    made = []
    for name, J in found.items():
        difference = J - found[reference]
        measures = {"J": J, "gap": difference, "mean_gap": difference.cumsum(dim=1) / count}
        intervals = {measure: interval(samples) for measure, samples in measures.items()}
        for i, n in enumerate(steps):
            row: dict[str, Any] = {"estimator": name, "n": n}
            for measure, each in intervals.items():
                row |= {measure: float(each.mean[i]), f"{measure}_half": float(each.half[i])}
            made.append(row)
    return made


def verdict(mean: float, half: float) -> str:
    """What an interval allows to say of a difference to the reference."""
    if mean == half == 0:
        return "the same, to the bit"
    if abs(mean) <= half:
        return f"{mean:+.4f} +- {half:.4f}: undecided"
    return f"{mean:+.4f} +- {half:.4f}: {'ahead' if mean > 0 else 'behind'}"
