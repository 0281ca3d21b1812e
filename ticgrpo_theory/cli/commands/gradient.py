"""`ticgrpo gradient`: the expectation of an estimator beside the gradient of the expected return."""

from ticgrpo_theory.commands.options import ASKED, DRIFT, LISTING, AskedOptions, DriftOptions, ListingOptions


def gradient(
    asked: AskedOptions = ASKED,
    drift: DriftOptions = DRIFT,
    listing: ListingOptions = LISTING,
    *,
    json: bool = False,
) -> int:
    """Which gradient does an estimator estimate? E[g_hat] beside grad J.

    The groups are drawn from theta_old and the estimator acts at theta, which is theta_old unless
    --inner-steps or --theta takes it away from there. c is the multiple of grad J that is estimated before
    any drift.

    ticgrpo gradient --world xor --estimator grpo

    ticgrpo gradient --world bigram --estimator dapo --set eps_high=0.3 delta=0 --inner-steps 4

    ticgrpo gradient --world mine.yaml --estimator mine.py:mine --group-size 2 --json

    ticgrpo gradient --world xor --estimator mine.py:loss --advantage centred --method sampled

    Args:
        json: Print JSON, with the whole tables E[g_hat] and grad J.
    """
    from ticgrpo_theory.answers import gradient as gradients
    from ticgrpo_theory.answers.asked import question
    from ticgrpo_theory.answers.printed import give

    return give(lambda: gradients.answer(question(asked), drift, listing), gradients.show, json)
