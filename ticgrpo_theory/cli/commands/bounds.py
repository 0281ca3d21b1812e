"""`ticgrpo bounds`: the constants of an instance, and what the convergence theorems say of it."""

from typing import Literal

from ticgrpo_theory.cli.options import REQUEST, RequestOptions


def bounds(
    request: RequestOptions = REQUEST,
    *,
    learning_rate: float = 0.001,
    inner_steps: int = 2,
    outer_steps: int = 10_000,
    batches: Literal["reused", "disjoint"] = "reused",
    json: bool = False,
) -> int:
    """Does a convergence theorem say anything here? Constants, conditions and right sides of both theorems.

    Both bound (1/N) sum_n E||grad J(theta_n)||^2, from the start of the world. A right side is infinite where
    a condition fails, and the condition is named.

    ticgrpo bounds --world xor

    ticgrpo bounds --world bigram --estimator no_is stale --learning-rate 1e-4 --json

    Args:
        learning_rate: Step size eta.
        inner_steps: Steps K between two refreshes of theta_old.
        outer_steps: Refreshes N of theta_old.
        batches: One group for all inner steps, or a new one for each.
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import bounds as theorems
    from ticgrpo_theory.cli.output import give
    from ticgrpo_theory.cli.request import request_of

    steps = (learning_rate, inner_steps, outer_steps)
    return give(lambda: theorems.answer(request_of(request), *steps, batches), theorems.show, json)
