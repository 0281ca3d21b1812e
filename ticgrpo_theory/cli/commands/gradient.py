"""`ticgrpo gradient`: the expectation of an estimator beside the gradient of the expected return."""

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


def gradient(
    request: RequestOptions = REQUEST,
    drawing: DrawingOptions = DRAWING,
    updates: UpdateOptions = UPDATES,
    drift: DriftOptions = DRIFT,
    listing: ListingOptions = LISTING,
    *,
    json: bool = False,
) -> int:
    """Which gradient does an estimator estimate? E[g_hat] beside grad J.

    The groups are drawn from theta_old, or from what --sampler or --theta-sampler makes of it, and the
    estimator acts at theta, which is theta_old unless --inner-steps or --theta takes it away from there. c is
    the multiple of grad J that is estimated before any drift. With --prompts g_hat is that of a whole update.

    ticgrpo gradient --world xor --estimator grpo

    ticgrpo gradient --world bigram --estimator dapo --set eps_high=0.3 delta=0 --inner-steps 4

    ticgrpo gradient --world right-answer --estimator grpo --sampler top_p=0.7,temperature=0.8

    ticgrpo gradient --world two-prompts --estimator mine.py:mine --group-size 2 --prompts each --scope batch

    ticgrpo gradient --world mine.yaml --estimator mine.py:mine --group-size 2 --json

    ticgrpo gradient --world xor --estimator mine.py:loss --advantage centred --method sampled

    Args:
        json: Print JSON, with the whole tables E[g_hat] and grad J.
    """
    from ticgrpo_theory.cli.answers import gradient as gradients
    from ticgrpo_theory.cli.output import Answer, give
    from ticgrpo_theory.cli.request import request_of

    def found() -> Answer:
        return gradients.answer(request_of(request, drawing=drawing, updates=updates), drift, listing)

    return give(found, gradients.show, json)
