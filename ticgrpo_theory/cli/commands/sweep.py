"""`ticgrpo sweep`: an experiment over a grid of configurations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ticgrpo_theory.experiment.sweep import Summary


def sweep(
    what: str,
    /,
    *,
    grid: tuple[str, ...] = (),
    set: tuple[str, ...] = (),
    name: str | None = None,
    results: Path = Path("results"),
    backend: Literal["loky", "sequential", "ray", "dask"] = "loky",
    jobs: int | None = None,
    address: str | None = None,
    trust: bool = False,
    json: bool = False,
) -> int:
    """Compute rows(cfg) of an experiment for every cell of a grid, on all cores, as one table.

    ticgrpo sweep bias_vs_K --set worlds=xor --set K=4 --grid etas=0.1,1.0 --grid group_size=4,8

    ticgrpo sweep experiments/sweeps/bias_in_eta_and_G.yaml --jobs 2

    ticgrpo sweep mine.py:rows --grid 'etas=[0.1, 1.0],[0.2]' --json

    Each finished cell is on the disk at once. Killed or interrupted, the same command goes on and computes
    only what is missing. A cell that fails is recorded and the rest goes on; there is a table when every cell
    is finished, until then a list of the failed ones, which the same command tries again. A second sweep of
    the same name is refused while one is at work.

    Exit code: 0 when every cell is finished, 1 when one has failed or the input is refused, 130 when
    interrupted.

    Args:
        what: A script of experiments/ by name, a path, a module, one of them with :function, or a YAML file.
        grid: field=value,value,... of a field that varies; each value is YAML. Once for each field.
        set: field=value of a field that is the same in every cell. It and --grid go before the YAML file.
        name: Of the table below the folder of results; by default sweeps/ and the name of what is swept.
        results: Folder of the table of results.
        backend: loky is a pool of processes, sequential this process; ray and dask are extras.
        jobs: Workers, each with one thread; by default one for each core.
        trust: Keep what was finished before the script, or a file of yours that it imports, was edited.
        address: Of a Ray or Dask cluster that is running; by default one is started on this machine.
        json: Print the summary as JSON.
    """
    # Not above: `ticgrpo --help` is read more often than anything is swept, and waits for no pandas.
    from ticgrpo_theory.experiment.grid import fixed_values, from_yaml, make
    from ticgrpo_theory.experiment.source import find, load
    from ticgrpo_theory.experiment.sweep import sweep as run
    from ticgrpo_theory.experiment.workers import workers
    from ticgrpo_theory.experiment.yaml_fields import options, without

    varied = options(grid, "grid")
    if Path(what).suffix in (".yaml", ".yml"):
        reference, fixed, values = from_yaml(Path(what))
        stem = Path(what).stem
    else:
        reference, fixed, values = what, {}, {}
        stem = ""
    experiment = load(find(reference))
    given = fixed_values(experiment, options(set, "set"))
    here = {**given, **varied}
    fixed, values = without(fixed, here), without(values, here)
    fixed.update(given)
    values.update(varied)
    made = make(reference, fixed, values)
    default = f"sweeps/{stem or experiment.label.replace(':', '.')}"
    summary = run(name or default, made, workers(backend, jobs, address), folder=results, trusted=trust)
    if json:
        print(summary.as_json())
    else:
        _say(summary)
    return 1 if summary.failed else 0


def _say(summary: Summary) -> None:
    kept = f" ({summary.kept:,} were there)" if summary.kept else ""
    if not summary.failed:
        print(f"{summary.cells:,} cells{kept}, {summary.rows:,} rows in {summary.table}")
        return
    for failure in summary.failed:
        print(f"failed: {failure['cell']}: {failure['type']}: {failure['message']}", file=sys.stderr)
    print(
        f"error: {len(summary.failed):,} of {summary.cells:,} cells failed, and there is no table until they "
        f"are finished; tracebacks are in {summary.failures}, the same command tries them again",
        file=sys.stderr,
    )
