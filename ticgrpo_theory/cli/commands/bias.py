"""`ticgrpo bias`: the error of an estimator against the current and the old gradient, step by step."""

from typing import Literal

from ticgrpo_theory.cli.options import (
    DRAWING,
    LISTING,
    REQUEST,
    UPDATES,
    DrawingOptions,
    ListingOptions,
    RequestOptions,
    UpdateOptions,
)


def bias(
    request: RequestOptions = REQUEST,
    drawing: DrawingOptions = DRAWING,
    updates: UpdateOptions = UPDATES,
    listing: ListingOptions = LISTING,
    *,
    inner_steps: int = 8,
    learning_rate: float = 0.1,
    steps: Literal["mean", "reused", "disjoint"] = "mean",
    json: bool = False,
) -> int:
    """How far is an estimator from grad J(theta_k) and from grad J(theta_old), after k steps?

    Distances are to c grad J, c being the multiple that is estimated before any drift; JSON has those to grad
    J too. --steps mean follows E[g_hat]. --steps reused takes all steps on one group, disjoint on a new group
    each, and averages over every group that can be drawn, which takes a small world and a small G.

    ticgrpo bias --world xor --estimator grpo tic_grpo trajectory_is --learning-rate 1

    ticgrpo bias --world bandit --estimator grpo --inner-steps 4 --json

    ticgrpo bias --world xor --group-size 3 --inner-steps 3 --steps reused

    ticgrpo bias --world xor --estimator grpo --sampler bfloat16,temperature=0.9

    Args:
        inner_steps: Steps K; there is a row for each k = 0..K.
        learning_rate: Step size eta.
        steps: What each step follows.
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import bias as biases
    from ticgrpo_theory.cli.output import Answer, give
    from ticgrpo_theory.cli.request import request_of

    how = (inner_steps, learning_rate, steps, listing)

    def found() -> Answer:
        return biases.answer(request_of(request, drawing=drawing, updates=updates), *how)

    return give(found, biases.show, json)
