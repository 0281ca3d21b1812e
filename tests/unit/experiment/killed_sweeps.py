"""Program of test_sweep_killed.py: sweeps that are really killed; prints what was found, as JSON.

    python killed_sweeps.py every FOLDER      one process, killed once, at each file operation in turn
    python killed_sweeps.py failing FOLDER    the same with a cell that fails at each attempt
    python killed_sweeps.py random FOLDER R   two workers, the whole tree killed at random, R times over

A process of its own, because a forked copy of the one that runs the tests would inherit its threads.
"""

import io
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from joblib.externals.loky import get_reusable_executor
from rich.console import Console

from tests.unit.experiment import faults
from ticgrpo_theory.experiment.grid import make
from ticgrpo_theory.experiment.sweep import sweep
from ticgrpo_theory.experiment.workers import workers

TOY = str(Path(__file__).with_name("toy_sweep.py"))
FEW = make(TOY, {}, {"x": [1, 2, 3]})
FAILING = make(TOY, {"fail": "raises"}, {"x": [1, -1, 2]})
MANY = make(TOY, {"seconds": 0.02}, {"x": [1, 2, 3, 4], "etas": [0.1, [0.1, 0.2]]})


def run(grid, folder: Path, backend: str = "sequential", jobs: int | None = None) -> None:
    os.environ["SWEEP_LOG"] = str(folder.with_suffix(".log"))
    sweep("toy", grid, workers(backend, jobs), folder=folder, console=Console(file=io.StringIO()))


def lines(folder: Path) -> list[str]:
    log = folder.with_suffix(".log")
    if not log.exists():
        return []
    return [line for line in log.read_text().split("\n") if not line.startswith(("pid", "threads"))]


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().hex() for path in sorted(folder.rglob("*")) if path.is_file()}


def kept(folder: Path) -> list[str]:
    """The cells whose rows are on the disk, as the log names them."""
    cells = [json.loads(path.read_text()) for path in (folder / "toy.cells").glob("*.json")]
    keys = [{"etas": [0.5], **cell["key"]} for cell in cells if "rows" in cell]
    return [f"{key['x']} {tuple(key['etas'])}" for key in keys]


def in_a_child(grid, folder: Path) -> int:
    return faults.in_a_child(lambda: run(grid, folder))


def with_workers(folder: Path) -> None:
    run(MANY, folder, "loky", 2)
    get_reusable_executor().shutdown(kill_workers=True)  # what Python does at its end, which a fork skips


def facts_of(folder: Path, killed: Callable[[], int], again: Callable[[], int]) -> dict[str, object]:
    folder.mkdir(parents=True)
    status = killed()
    before, there = lines(folder), kept(folder)
    return {
        "status": status,
        "kept": there,
        "again": again(),
        "files": files(folder),
        "done": [line for line in before if line.startswith("done")],
        "after": lines(folder)[len(before) - 1 if before else 0 :],
    }


def every(root: Path, grid=FEW) -> list[dict[str, object]]:
    facts = []
    for n in itertools.count(1):
        folder = root / str(n)

        def killed(n=n, folder=folder) -> int:
            def start() -> None:
                with faults.at_operation(n, faults.killed):
                    run(grid, folder)

            return faults.in_a_child(start)

        facts.append(facts_of(folder, killed, lambda folder=folder: in_a_child(grid, folder)))
        if facts[-1]["status"] == 0:
            return facts


def tree_killed(folder: Path, draw: random.Random) -> int:
    """Kill main process and workers at once, a random moment after a random number of cells was begun."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with_workers(folder)
        os._exit(0)
    begun, wait = draw.randint(0, 8), draw.uniform(0, 0.03)
    deadline = time.monotonic() + 60
    while sum(line.startswith("begin") for line in lines(folder)) < begun and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(wait)
    while True:
        try:
            os.killpg(child, signal.SIGKILL)
            break
        except ProcessLookupError:  # not yet the leader of its group
            time.sleep(0.001)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_random(root: Path, repetitions: int) -> list[dict[str, object]]:
    facts = []
    for repetition in range(repetitions):
        folder, draw = root / str(repetition), random.Random(repetition)
        facts.append(
            facts_of(
                folder,
                lambda folder=folder, draw=draw: tree_killed(folder, draw),
                lambda folder=folder: faults.in_a_child(lambda: with_workers(folder)),
            )
        )
    return facts


if __name__ == "__main__":
    root = Path(sys.argv[2])
    modes = {
        "every": lambda: every(root),
        "failing": lambda: every(root, FAILING),
        "random": lambda: at_random(root, int(sys.argv[3])),
    }
    print(json.dumps(modes[sys.argv[1]]()))
