"""The workers of a sweep: joblib with a pool of processes, this process, Ray or Dask behind it."""

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import joblib

from ticgrpo_theory.experiment.source import Source
from ticgrpo_theory.experiment.sweep_cell import Outcome, compute, described

AWAY = 2
"""Least number of workers. One job of joblib is this very process, which a cell that dies would take along;
with --jobs 1 a second one is idle."""

ONE_THREAD: Mapping[str, str] = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}
"""Environment of workers that this process starts; each has a core."""

Task = tuple[dict[str, Any], dict[str, Any]]
"""The key of a cell, and what Config is called with."""


@dataclass(frozen=True)
class Pool:
    """How many cells are computed at once, and by whom."""

    backend: str
    options: Mapping[str, Any]
    """What joblib makes this backend with."""
    jobs: int
    parent: int | None = None
    """The process with whose death the workers end, where they are its children."""

    def outcomes(self, source: Source, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """An outcome for each task, as they are ready; each task is handed out once.

        Unless a worker dies, which takes the others with it and does not say at which cell: then the cells
        that were being computed are tried one at a time until one kills its worker again.
        """
        left = {_code(key): (key, values) for key, values in tasks}
        while left:
            suspects: list[str] = []
            try:
                for outcome in self._together(source, list(left.values())):
                    del left[_code(outcome.key)]
                    yield outcome
            except _Died as died:
                suspects = [code for code in died.taken if code in left]
            for code in suspects:
                outcome, survived = self._alone(source, left.pop(code))
                yield outcome
                if not survived:
                    break

    def _together(self, source: Source, tasks: Sequence[Task]) -> Iterator[Outcome]:
        taken: list[str] = []

        def calls() -> Iterator[Any]:
            for key, values in tasks:
                taken.append(_code(key))
                yield joblib.delayed(compute)(source, key, values, self.parent)

        jobs = min(self.jobs, len(tasks))
        # Made anew each time: what a backend was waiting for when a worker died does not come back.
        with joblib.parallel_config(backend=self.backend, **self.options):
            parallel: Any = joblib.Parallel  # which is annotated by its default values alone
            ready = parallel(
                n_jobs=1 if self.backend == "sequential" else max(AWAY, jobs),
                batch_size=1,  # joblib would join quick cells, and a kill would lose all of a batch
                pre_dispatch=jobs,
                return_as="generator_unordered",
            )(calls())
            with _closing(ready):
                while True:
                    try:
                        outcome = next(ready)
                    except StopIteration:
                        return
                    except Exception as error:
                        raise _Died(taken) from error
                    yield outcome

    def _alone(self, source: Source, task: Task) -> tuple[Outcome, bool]:
        """The outcome of a cell in a pool of its own, and whether the worker survived it."""
        try:
            (outcome,) = dataclasses.replace(self, jobs=1)._together(source, [task])
        except _Died as died:
            return Outcome(task[0], 0.0, error=described(died.__cause__ or died)), False
        return outcome, True


class _Died(Exception):
    def __init__(self, taken: list[str]) -> None:
        super().__init__("a worker died")
        self.taken = taken


def _code(key: dict[str, Any]) -> str:
    return json.dumps(key)


def workers(
    backend: str = "loky", jobs: int | None = None, address: str | None = None
) -> contextlib.AbstractContextManager[Pool]:
    """The pool that a name of BACKENDS stands for; `jobs` is by default as many as there are cores."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs = {jobs}: it takes at least 1 worker; give --jobs 1 or more")
    if address is not None and backend not in ("ray", "dask"):
        raise ValueError(f"address = {address!r} is of a cluster, and {backend} has none; use ray or dask")
    return BACKENDS[backend](jobs, address)


@contextlib.contextmanager
def _sequential(jobs: int | None, _: str | None) -> Iterator[Pool]:
    yield Pool("sequential", {}, 1)


@contextlib.contextmanager
def _loky(jobs: int | None, _: str | None) -> Iterator[Pool]:
    # The threads of OMP, BLAS and numba, which read the environment of the workers when they are loaded.
    yield Pool("loky", {"inner_max_num_threads": 1}, jobs or joblib.cpu_count(), os.getpid())


@contextlib.contextmanager
def _ray(jobs: int | None, address: str | None) -> Iterator[Pool]:
    ray, backend = _extra("ray", "ray", "ray.util.joblib.ray_backend")

    class Streaming(backend.RayBackend):
        # joblib hands outcomes over as they are ready only where a backend says so. This one calls back as
        # the others do; it does not say so because the class that it extends cannot be relied on to.
        supports_return_generator = True

    joblib.register_parallel_backend("ray", Streaming)
    cpus = max(AWAY, jobs or joblib.cpu_count())
    local = {} if address else {"num_cpus": cpus, "include_dashboard": False}
    with _environment(ONE_THREAD):
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        try:
            yield Pool("ray", {}, jobs or int(ray.cluster_resources()["CPU"]))
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _dask(jobs: int | None, address: str | None) -> Iterator[Pool]:
    dask, distributed, backend = _extra("dask", "dask", "distributed", "joblib._dask")

    class Reporting(backend.DaskDistributedBackend):
        """Says so when a task is lost with its worker, for which joblib would wait for ever."""

        def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
            future = super().submit(func, callback)
            if callback is not None:
                future.add_done_callback(lambda done: callback(done) if done.exception() else None)
            return future

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(AWAY, super().effective_n_jobs(n_jobs))

        def retrieve_result_callback(self, out: Any) -> Any:
            return super().retrieve_result_callback(out.result() if isinstance(out, Future) else out)

    joblib.register_parallel_backend("dask", Reporting)
    local = {"n_workers": jobs or joblib.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    with (
        _environment(ONE_THREAD),
        # A cell that has killed its worker is not sent to the other ones.
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.Client(**{"address": address} if address else local) as client,
    ):
        # A minute for a worker to come back: one that died may have been the only one.
        options = {"client": client, "wait_for_workers_timeout": 60}
        yield Pool("dask", options, jobs or sum(client.ncores().values()))


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _extra(name: str, *modules: str) -> list[Any]:
    try:
        return [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise ValueError(
            f"backend {name} is not installed ({error}); pip install 'ticgrpo-theory[{name}]'"
        ) from None


BACKENDS = {"loky": _loky, "sequential": _sequential, "ray": _ray, "dask": _dask}


@contextlib.contextmanager
def _closing(ready: Generator[Any, None, None]) -> Iterator[None]:
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was under way when a sweep ends early is computed again
            ready.close()
