"""experiment/workers.py: the same table from a pool of processes, Dask and Ray; workers that die."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thinned import more, only
from tests.unit.experiment.killed_sweeps import TOY
from ticgrpo_theory.cli import main
from ticgrpo_theory.experiment.workers import workers

ROOT = Path(__file__).parents[3]

CLUSTER = """
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


def installed(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None, reason=f"{package} is not installed; it is an extra"
    )


def command(*args: str, **environment: str) -> tuple[int, dict, str]:
    """Exit code, summary and messages of `ticgrpo sweep`, in a process of its own as every backend needs."""
    done = subprocess.run(
        [sys.executable, "-m", "ticgrpo_theory.cli", "sweep", TOY, "--json", *args],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def table(folder: Path) -> bytes:
    return (folder / "sweeps" / "toy_sweep.parquet").read_bytes()


@pytest.fixture
def expected(tmp_path, capsys) -> bytes:
    options = ("--backend", "sequential", "--results", str(tmp_path / "expected"))
    assert main.main(["sweep", TOY, "--grid", "x=1,2,3,4", *options]) == 0
    return table(tmp_path / "expected")


def the_dead_cell_fails_alone(backend: str, tmp_path: Path, expected: bytes, *more: str) -> None:
    """x = -1 kills its worker and fails; the other cells are those of an undisturbed sweep."""
    options = ("--backend", backend, "--jobs", "2", "--results", str(tmp_path), *more)
    code, summary, _ = command("--grid", "x=1,-1,2,3", "--set", "fail=dies", "--name", "dies", *options)
    assert code == 1 and summary["computed"] == 3 and summary["cells"] == 4
    (failure,) = summary["failed"]
    assert failure["cell"] == {"x": -1} and failure["type"] and failure["traceback"]
    log = tmp_path / "log"
    many = {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "3", "SWEEP_LOG": str(log)}
    code, summary, _ = command("--grid", "x=1,2,3,4", *options, **many)
    assert code == 0 and summary["computed"] == 4
    assert table(tmp_path) == expected
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("threads")] == ["threads ['1', '1']"] * 4


@pytest.mark.parametrize("jobs", only(["2"], ["1", "2"]))
def test_a_pool_of_processes_survives_a_worker_that_dies(tmp_path, expected, jobs):
    the_dead_cell_fails_alone("loky", tmp_path, expected, "--jobs", jobs)


@more
@installed("distributed")
def test_dask_survives_a_worker_that_dies_and_gives_the_same_table(tmp_path, expected):
    the_dead_cell_fails_alone("dask", tmp_path, expected)


@more
@installed("distributed")
def test_dask_takes_the_address_of_a_cluster_that_is_running(tmp_path, expected):
    once = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | once
    program = tmp_path / "cluster.py"
    program.write_text(CLUSTER)
    with subprocess.Popen(
        [sys.executable, program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as cluster:
        address = cluster.stdout.readline().strip()
        options = ("--backend", "dask", "--address", address, "--results", str(tmp_path))
        code, summary, _ = command("--grid", "x=1,2,3,4", *options)
        # A cluster of one worker: the cell dies there and not in the process of the command.
        dead, of_dead, _ = command("--grid", "x=-1", "--set", "fail=dies", "--name", "dies", *options)
        cluster.communicate("")
    assert code == 0 and summary["computed"] == 4 and table(tmp_path) == expected
    assert dead == 1 and [failure["cell"] for failure in of_dead["failed"]] == [{"x": -1}]


@pytest.mark.slow
@installed("ray")
def test_ray_survives_a_worker_that_dies_and_gives_the_same_table(tmp_path, expected):
    the_dead_cell_fails_alone("ray", tmp_path, expected)


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("dask", "dask")])
def test_a_backend_that_is_not_installed_says_how_to_install_it(tmp_path, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError, match=rf"{backend} is not installed .*pip install 'ticgrpo-theory\[{backend}\]'"
    ):
        workers(backend).__enter__()


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="unknown backend 'spark'; choose from loky, sequential, ray, dask"):
        workers("spark")
