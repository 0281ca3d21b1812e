"""`ticgrpo moments`: the noise of an estimator."""

from ticgrpo_theory.commands.options import ASKED, DRIFT, AskedOptions, DriftOptions, Method


def moments(
    asked: AskedOptions = ASKED,
    drift: DriftOptions = DRIFT,
    *,
    method: Method = "auto",
    json: bool = False,
) -> int:
    """How noisy is an estimator? Variance, mean squared error, effective sample size, without sampling.

    ticgrpo moments --world right-answer --group-size 16

    ticgrpo moments --world bigram --estimator prefix_is trajectory_is --inner-steps 4 --json

    Args:
        method: How the sum over groups is carried out; auto takes the cheapest that is exact, and says which.
        json: Print JSON.
    """
    from ticgrpo_theory.answers import moments as noise
    from ticgrpo_theory.answers.asked import question
    from ticgrpo_theory.answers.printed import give

    return give(lambda: noise.answer(question(asked), drift, method), noise.show, json)
