"""`ticgrpo moments`: the noise of an estimator."""

from ticgrpo_theory.commands.options import ASKED, DRIFT, LISTING, AskedOptions, DriftOptions, ListingOptions


def moments(
    asked: AskedOptions = ASKED,
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
    from ticgrpo_theory.answers import moments as noise
    from ticgrpo_theory.answers.asked import question
    from ticgrpo_theory.answers.printed import give

    return give(lambda: noise.answer(question(asked), drift, listing), noise.show, json)
