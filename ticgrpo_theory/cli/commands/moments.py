"""`ticgrpo moments`: the noise of an estimator."""

from ticgrpo_theory.cli.options import (
    DRAWING,
    DRIFT,
    LISTING,
    REQUEST,
    DrawingOptions,
    DriftOptions,
    ListingOptions,
    RequestOptions,
)


def moments(
    request: RequestOptions = REQUEST,
    drawing: DrawingOptions = DRAWING,
    drift: DriftOptions = DRIFT,
    listing: ListingOptions = LISTING,
    *,
    json: bool = False,
) -> int:
    """How noisy is an estimator? Variance, mean squared error, effective sample size.

    ticgrpo moments --world right-answer --group-size 16

    ticgrpo moments --world bigram --estimator prefix_is trajectory_is --inner-steps 4 --json

    Args:
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import moments as noise
    from ticgrpo_theory.cli.output import give
    from ticgrpo_theory.cli.request import request_of

    return give(lambda: noise.answer(request_of(request, drawing=drawing), drift, listing), noise.show, json)
