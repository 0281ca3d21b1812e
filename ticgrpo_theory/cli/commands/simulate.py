"""`ticgrpo simulate`: both algorithms, many replicates at once."""

from pathlib import Path
from typing import Literal

from ticgrpo_theory.cli.options import REQUEST, RequestOptions


def simulate(
    request: RequestOptions = REQUEST,
    *,
    learning_rate: float = 0.1,
    inner_steps: int = 4,
    outer_steps: int = 100,
    replicates: int = 64,
    seed: int = 0,
    batches: Literal["reused", "disjoint"] = "reused",
    prompts_per_step: int = 1,
    device: str = "cpu",
    folder: Path | None = None,
    json: bool = False,
) -> int:
    """How does training go? Algorithms 1 (GRPO) and 2 (TIC-GRPO), J and grad J exact at every step.

    Means over replicates with 95 % intervals. All estimators share their random numbers, and the intervals of
    their differences from the first one make use of that. C1 bounds every single run:
    sum <g_n, Delta_n> <= J_N - J_0 + (L_J / 2) sum ||Delta_n||^2.

    ticgrpo simulate --world xor --group-size 4 --outer-steps 20 --replicates 16

    ticgrpo simulate --world xor --group-size 4 --outer-steps 20 --replicates 16 --folder runs --json

    Args:
        learning_rate: Step size eta.
        inner_steps: Steps K between two refreshes of theta_old.
        outer_steps: Refreshes N of theta_old.
        replicates: Independent runs; an interval needs at least 2.
        seed: Of all random numbers.
        batches: One group for all inner steps, or a new one for each.
        prompts_per_step: Groups whose gradients are averaged in each inner step.
        device: cpu, or cuda where there is a GPU.
        folder: Keeps the state of the runs, with which the same command goes on when it was interrupted.
        json: Print JSON.
    """
    from ticgrpo_theory.cli.answers import simulation
    from ticgrpo_theory.cli.output import give
    from ticgrpo_theory.cli.request import request_of

    runs = simulation.Runs(
        learning_rate=learning_rate,
        inner_steps=inner_steps,
        outer_steps=outer_steps,
        replicates=replicates,
        seed=seed,
        batches=batches,
        prompts_per_step=prompts_per_step,
        device=device,
    )
    return give(lambda: simulation.answer(request_of(request), runs, folder), simulation.show, json)
