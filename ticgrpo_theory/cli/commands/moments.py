"""`ticgrpo moments`: the noise of an estimator."""

from ticgrpo_theory.cli.options import (
    DRAWING,
    DRIFT,
    LISTING,
    REQUEST,
    UPDATES,
    DrawingOptions,
    DriftOptions,
    ListingOptions,
    RequestOptions,
    UpdateOptions,
)


def moments(
    request: RequestOptions = REQUEST,
    drawing: DrawingOptions = DRAWING,
    updates: UpdateOptions = UPDATES,
    drift: DriftOptions = DRIFT,
    listing: ListingOptions = LISTING,
    *,
    json: bool = False,
) -> int:
    """How noisy is an estimator? Variance, mean squared error, effective sample size.

    ticgrpo moments --world right-answer --group-size 16

    ticgrpo moments --world two-prompts --group-size 4 --prompts 3

    ticgrpo moments --world bigram --estimator prefix_is trajectory_is --inner-steps 4 --json

    Args:
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import moments as noise
    from ticgrpo_theory.cli.output import Answer, give
    from ticgrpo_theory.cli.request import request_of

    def found() -> Answer:
        return noise.answer(request_of(request, drawing=drawing, updates=updates), drift, listing)

    return give(found, noise.show, json)
