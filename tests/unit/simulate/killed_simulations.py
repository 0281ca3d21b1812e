"""Program of test_state.py: simulations killed at each of their file operations, and resumed.

    python killed_simulations.py ENGINE FOLDER

A process of its own, and one for every run: a forked copy of a process that has run compiled loops would
inherit their threads.
"""

import itertools
import json
import sys
from pathlib import Path

import torch

from tests.unit.experiment import faults
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import WORLDS


def run(engine: str, folder: Path | None, result: Path) -> None:
    mdp = WORLDS["xor"].build()
    trace = simulate(
        mdp,
        [[0.5, 0.0]],
        "grpo",
        group_size=4,
        learning_rate=0.5,
        inner_steps=2,
        outer_steps=3,
        replicates=2,
        engine=engine,
        folder=folder,
        save_seconds=0.0,
    )
    numbers = [trace.theta.flatten(), trace.sum_gradient_dot_move, trace.expected_return.flatten()]
    result.write_bytes(torch.cat(numbers).numpy().tobytes())


def killed_at(n: int, engine: str, folder: Path, result: Path) -> int:
    def start() -> None:
        with faults.at_operation(n, faults.killed):
            run(engine, folder, result)

    return faults.in_a_child(start)


def main(engine: str, root: Path) -> dict[str, list]:
    statuses, same = [], []
    faults.in_a_child(lambda: run(engine, None, root / "whole"))
    for n in itertools.count(1):
        folder, result = root / str(n), root / f"result-{n}"
        statuses.append(killed_at(n, engine, folder, result))
        faults.in_a_child(lambda folder=folder, result=result: run(engine, folder, result))
        same.append(result.read_bytes() == (root / "whole").read_bytes())
        if statuses[-1] == 0:
            return {"statuses": statuses, "same": same}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
