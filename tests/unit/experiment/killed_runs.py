"""Program of test_cells.py: runs of an experiment that are really killed; prints what was found, as JSON.

    python killed_runs.py every FOLDER        killed once, at each file operation in turn
    python killed_runs.py random FOLDER       killed again and again, 20 times over

A process of its own, because a forked copy of the one that runs the tests would inherit its threads.
"""

import itertools
import json
import random
import sys
from pathlib import Path

from tests.unit.experiment import faults
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.experiment.cells import Cells

KEYS = [("tree", 0.1), ("tree", 0.2), ("automaton", 0.1)]
IDENTITY = {"config": {"etas": [0.1, 0.2]}, "results_version": 1}


def rows_of(key: tuple[str, float]) -> list[dict[str, float | str]]:
    world, eta = key
    return [{"world": world, "eta": eta, "k": k, "bias": eta * k / 3} for k in range(50)]


def run(folder: Path) -> None:
    """One start of the experiment; `log` says which cells it began and finished."""
    work = Cells("long", KEYS, folder=folder, **IDENTITY)
    with open(folder.with_suffix(".log"), "a") as log:
        for key in work.missing:
            print("begin", *key, file=log, flush=True)
            work.finish(key, rows_of(key), seconds=0.25)
            print("done", *key, file=log, flush=True)
    work.write()


def found(folder: Path) -> dict[str, object]:
    log = folder.with_suffix(".log").read_text().split("\n")
    return {
        "rows": (folder / "long.parquet").read_bytes().hex(),
        "refusal": results_file.refusal("long", folder=folder, **IDENTITY),
        "files": sorted(path.name for path in folder.rglob("*")),
        "done_twice": [line for line in set(log) if line.startswith("done") and log.count(line) > 1],
        "begun": sum(line.startswith("begin") for line in log),
    }


def killed_at(folder: Path, n: int) -> int:
    def start() -> None:
        with faults.at_operation(n, faults.killed):
            run(folder)

    return faults.in_a_child(start)


def every(root: Path) -> list[dict[str, object]]:
    facts = []
    for n in itertools.count(1):
        folder = root / str(n)
        folder.mkdir(parents=True)
        status = killed_at(folder, n)
        after_kill = results_file.refusal("long", folder=folder, **IDENTITY)
        again = faults.in_a_child(lambda folder=folder: run(folder))
        facts.append({"status": status, "after_kill": after_kill, "again": again, **found(folder)})
        if status == 0:
            return facts


def at_random(root: Path) -> list[dict[str, object]]:
    facts = []
    for repetition in range(20):
        draw = random.Random(repetition)
        folder = root / str(repetition)
        folder.mkdir(parents=True)
        kills = 0
        while killed_at(folder, draw.randint(1, 30)) != 0:
            kills += 1
        facts.append({"kills": kills, **found(folder)})
    return facts


if __name__ == "__main__":
    print(json.dumps({"every": every, "random": at_random}[sys.argv[1]](Path(sys.argv[2]))))
