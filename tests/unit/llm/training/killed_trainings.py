"""Program of test_resume.py: training runs that are really killed; prints what was found, as JSON.

    python killed_trainings.py random FOLDER 10      killed at random moments, so many times over
    python killed_trainings.py every FOLDER          killed at each file operation of a rollout in turn

A process of its own, because a forked copy of the one that runs the tests would inherit its threads; forked
from one that has imported everything, because importing takes longer than training.
"""

import contextlib
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

import torch
from rich.console import Console

from llm.training import checkpoints, metrics_file, train
from tests.unit.experiment import faults
from tests.unit.llm.llm_runs import config, save_model

EVALUATED = {
    "evaluation__every": 2,
    "evaluation__source": "arithmetic",
    "evaluation__split": "held_out",
    "evaluation__problems": 4,
}


def training(model: Path, output: Path, **changes) -> Callable[[], object]:
    cfg = config(model, output, outer_steps=4, updates__batches="reused", **EVALUATED, **changes)

    def start() -> None:
        torch.set_num_threads(1)
        with contextlib.redirect_stderr(io.StringIO()):
            train.train(cfg, Console(file=io.StringIO()))

    return start


def killed_after(seconds: float, work: Callable[[], object]) -> int:
    """0 where the work was done before."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def found(output: Path) -> dict[str, object]:
    """Everything that a run leaves, timings left out."""
    newest = checkpoints.newest(output / "checkpoints", print)
    training_state = torch.load(newest / checkpoints.TRAINING, weights_only=True)
    moments = training_state["optimizer"]["state"].values()
    return {
        "weights": checkpoints.sha256(newest / checkpoints.WEIGHTS),
        "moments": [float(value["exp_avg_sq"].double().sum()) for value in moments],
        "metrics": [
            metrics_file.without_timings(line) for line in metrics_file.read(output / "metrics.jsonl")
        ],
        "evaluations": metrics_file.read(output / "evaluations.jsonl"),
        "files": sorted(
            str(path.relative_to(output)) for path in output.rglob("*") if "tensorboard" not in str(path)
        ),
    }


def lost(output: Path) -> int:
    """Finished rollouts that the newest checkpoint does not have."""
    newest = checkpoints.newest(output / "checkpoints", print)
    kept = 0 if newest is None else int(newest.name)
    return len({line["rollout"] for line in metrics_file.read(output / "metrics.jsonl")} - set(range(kept)))


def at_random(root: Path, times: int) -> dict[str, object]:
    model = save_model(root / "model")
    began = time.perf_counter()
    assert faults.in_a_child(training(model, root / "whole")) == 0
    seconds = time.perf_counter() - began
    facts = []
    for repetition in range(times):
        draw, attempt, status = random.Random(repetition), 0, 0
        while status == 0:  # a run that ended before its moment is no trial: draw another moment
            attempt += 1
            output = root / f"{repetition}-{attempt}"
            status = killed_after(draw.uniform(0, seconds), training(model, output))
        losses = [lost(output)]
        again = faults.in_a_child(training(model, output))
        facts.append({"kills": 1, "lost": losses, "again": again, **found(output)})
    return {"whole": found(root / "whole"), "seconds": seconds, "runs": facts}


def every(root: Path) -> dict[str, object]:
    model = save_model(root / "model")
    assert faults.in_a_child(training(model, root / "whole", checkpoints__keep=1)) == 0
    facts = []
    for n in itertools.count(1, 7):
        output = root / str(n)
        start = training(model, output, checkpoints__keep=1)

        def dying(n: int = n, start: Callable[[], object] = start) -> None:
            with faults.at_operation(n, faults.killed):
                start()

        status = faults.in_a_child(dying)
        losses = [lost(output)]
        again = faults.in_a_child(start)
        facts.append({"kills": int(status != 0), "lost": losses, "again": again, **found(output)})
        if status == 0:
            return {"whole": found(root / "whole"), "runs": facts}


if __name__ == "__main__":
    kind, folder, *number = sys.argv[1:]
    told = at_random(Path(folder), int(number[0])) if kind == "random" else every(Path(folder))
    print(json.dumps(told))
