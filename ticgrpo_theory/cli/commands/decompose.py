"""`ticgrpo decompose`: the terms of the paper's decompositions, as printed and as corrected."""

from ticgrpo_theory.cli.options import ONE_STEP, REQUEST, DriftOptions, RequestOptions


def decompose(
    request: RequestOptions = REQUEST,
    drift: DriftOptions = ONE_STEP,
    *,
    json: bool = False,
) -> int:
    """Which terms add up to E[g_hat]? Eq. 7 (grpo) and Eq. 11 (tic_grpo_eq11), as printed and as corrected.

    Without --estimator both, one inner step away from theta_old. The residual is the norm of what the terms
    leave of E[g_hat].

    ticgrpo decompose --world long-answers

    ticgrpo decompose --world mine.yaml --estimator grpo --set eps_low=0.1 --inner-steps 2 --json

    Args:
        json: Print JSON, with the terms as tables.
    """
    from ticgrpo_theory.cli.answers import decomposition
    from ticgrpo_theory.cli.output import give
    from ticgrpo_theory.cli.request import request_of

    both = ("grpo", "tic_grpo_eq11")
    return give(lambda: decomposition.answer(request_of(request, both), drift), decomposition.show, json)
