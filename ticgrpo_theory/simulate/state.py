"""What a simulation carries from one outer step to the next, and how it is kept on disk.

A state is written whole or not at all, so a run that is killed at any moment goes on from its last one, with
the numbers of a run that was not. A state of other settings is refused, never continued.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.experiment.own_files import edited, said_of
from ticgrpo_theory.simulate.prompt_graphs import PromptGraphs
from ticgrpo_theory.simulate.settings import Own, Settings

Floats = NDArray[np.float64]

ARRAYS = ("theta", "values", "moments", "totals", "frozen", "returns", "squares", "drift", "path", "final")


@dataclass
class State:
    """R replicates before outer step `step`."""

    step: int
    theta: Floats
    """[R, S, V] theta_{n,0}; of a frozen replicate that of the step which it did not survive."""
    values: Floats
    """[R, N + outcomes] expected return onward from every node at `theta`, then the rewards;
    [0, N + outcomes] for engines that find them anew in every step."""
    moments: Floats
    """[2, R, S, V] averages of Adam; [2, 0, S, V] without it."""
    totals: Floats
    """[R, 4] sums over the outer steps done (columns in `outer_step`)."""
    frozen: NDArray[np.int64]
    """[R] outer step in which a replicate became non-finite, -1 while it has not."""
    returns: Floats
    """[R, records] J, and likewise `squares` ||grad J||^2 and `drift` ||theta_{n+1,0} - theta_{n,0}||."""
    squares: Floats
    drift: Floats
    path: Floats
    """[R, records, S, V] theta_{n,0}; [R, 0, S, V] where it is not recorded."""
    final: Floats
    """[R] J(theta_{N,0}), once it is reached."""
    refusals: dict[int, str]
    """What the estimator said of frozen replicates, by their index."""


def start_state(settings: Settings, replicates: int) -> State:
    """All replicates at theta, nothing recorded, no values kept."""
    S, V = settings.theta.shape
    records = (replicates, settings.steps.size)
    return State(
        step=0,
        theta=np.tile(settings.theta.numpy(), (replicates, 1, 1)),
        values=values_at_start(settings.graphs, 0),
        moments=np.zeros((2, 0 if settings.optimizer is None else replicates, S, V)),
        totals=np.zeros((replicates, 4)),
        frozen=np.full(replicates, -1, dtype=np.int64),
        returns=np.full(records, np.nan),
        squares=np.full(records, np.nan),
        drift=np.full(records, np.nan),
        path=np.full((replicates, settings.steps.size if settings.record_theta else 0, S, V), np.nan),
        final=np.full(replicates, np.nan),
        refusals={},
    )


def values_at_start(graphs: PromptGraphs, replicates: int) -> Floats:
    """[R, N + outcomes]: 0 at every node, where they are filled in by the first look, then the rewards."""
    return np.tile(np.concatenate([np.zeros(graphs.row.size), graphs.reward]), (replicates, 1))


def file_of(folder: Path, first_replicate: int, replicates: int) -> Path:
    return folder / f"replicates-{first_replicate}-{first_replicate + replicates - 1}.npz"


def save(state: State, stamp: str, own: Own, path: Path) -> None:
    """Replace the file by this state; whole at any moment."""
    about = {"stamp": stamp, "step": state.step, "refusals": {str(r): x for r, x in state.refusals.items()}}
    about |= {"own": own.code, "files": own.files}
    data = io.BytesIO()
    np.savez(data, about=np.array(json.dumps(about)), **{name: getattr(state, name) for name in ARRAYS})
    replace_files({path: data.getvalue()})


def load(stamp: str, own: Own, path: Path, trusted: bool = False) -> State | None:
    """The state in the file, None without a file.

    Raises ValueError where it is damaged, of other settings, or from before functions of the user's own were
    edited, unless it is `trusted`.
    """
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            arrays = {name: file[name] for name in ARRAYS}
            found, step, refusals = about["stamp"], about["step"], about["refusals"]
            code, files = about.get("own", ""), about.get("files", {})
    except Exception as error:  # zipfile, numpy and json have an exception each for a damaged file
        raise ValueError(
            f"{path} is not the state of a simulation, cut off or edited ({error!r}); delete it to start anew"
        ) from None
    if found != stamp:
        raise ValueError(
            f"{path} is the state of a simulation with other settings; finish that one as it was configured, "
            f"choose another folder, or delete the file"
        )
    if code != own.code and not trusted:
        changed = edited(files, own.files)
        what = said_of(changed) if changed else "the functions of the estimator changed"
        raise ValueError(
            f"{path} is the state of a simulation from before {what}; trust it (--trust) to go on with it, "
            f"or delete the file to start anew"
        )
    return State(step=step, refusals={int(r): x for r, x in refusals.items()}, **arrays)
