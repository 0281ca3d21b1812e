"""`ticgrpo simulate`: both algorithms, many replicates at once."""

from pathlib import Path

from ticgrpo_theory.cli.options import REQUEST, RUNS, RequestOptions, RunOptions


def simulate(
    request: RequestOptions = REQUEST,
    runs: RunOptions = RUNS,
    *,
    folder: Path | None = None,
    trust: bool = False,
    json: bool = False,
) -> int:
    """How does training go? Algorithms 1 (GRPO) and 2 (TIC-GRPO), J and grad J exact at every step.

    Means over replicates with 95 % intervals. All estimators share their random numbers, and the intervals of
    their differences from the first one make use of that. C1 bounds every single run:
    sum <g_n, Delta_n> <= J_N - J_0 + (L_J / 2) sum ||Delta_n||^2.

    ticgrpo simulate --world xor --group-size 4 --outer-steps 20 --replicates 16

    ticgrpo simulate --world xor --group-size 4 --outer-steps 20 --replicates 16 --folder runs --json

    ticgrpo simulate --world xor --group-size 4 --outer-steps 5 --replicates 16 --sampler temperature=0.7

    Args:
        folder: Keeps the state of the runs, with which the same command goes on when it was interrupted.
        trust: Go on with a state from before a function of yours was edited.
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import simulation
    from ticgrpo_theory.cli.output import give
    from ticgrpo_theory.cli.request import request_of

    return give(lambda: simulation.answer(request_of(request), runs, folder, trust), simulation.show, json)
