"""theta along the mean of an estimator, the groups always drawn from theta_old, and how far it errs there.

    theta_0 = theta,    theta_{k+1} = theta_k + eta E[g_hat](theta_k)

Many learning rates at once, with infinite groups: mean_field.py.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from ticgrpo_theory.exact.answers import Problem

P = TypeVar("P", bound=Problem)

MAX_STEPS = 2**14
"""Largest number of steps along a mean: about a minute in a small world."""


def mean_path(problem: P, learning_rate: float) -> Iterator[P]:
    """The problem at theta_0, theta_1, ..., without end; nothing but the last of them is kept."""
    while True:
        yield problem
        problem = problem.at(problem.theta + learning_rate * problem.mean)


def check_steps(inner_steps: int) -> None:
    """Raise ValueError for a path of more than MAX_STEPS steps."""
    if inner_steps > MAX_STEPS:
        raise ValueError(
            f"inner_steps = {inner_steps:,}: each is an expectation over all groups, and more than MAX_STEPS "
            f"= {MAX_STEPS:,} of them take minutes; lower K"
        )


def after_steps(problem: P, learning_rate: float, inner_steps: int) -> P:
    """The problem at theta_K. Raises ValueError for more than MAX_STEPS steps."""
    check_steps(inner_steps)
    return next(islice(mean_path(problem, learning_rate), inner_steps, None))


def distances(problem: Problem) -> dict[str, float]:
    """How far E[g_hat] is from grad J, and from c grad J, at theta and at theta_old."""
    mean, now, old, (c, _) = problem.mean, problem.gradient, problem.old.gradient, problem.scale
    return {
        "bias_current": float((mean - now).norm()),
        "bias_old": float((mean - old).norm()),
        "bias_current_scaled": float((mean - c * now).norm()),
        "bias_old_scaled": float((mean - c * old).norm()),
    }
