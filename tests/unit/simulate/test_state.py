"""The same bits whatever the threads, the replicates side by side, or the interruptions."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import pytest
import torch

from tests.properties.tolerances import SAME_BITS
from tests.thinned import more
from tests.unit.experiment import faults
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.simulate import Adam, Trace, algorithm, simulate
from ticgrpo_theory.simulate.engines import choose
from ticgrpo_theory.worlds import WORLDS
from ticgrpo_theory.worlds.samplers import top_k, top_p

ENGINES = ("compiled", "hybrid", "tensors")
RUN = {"group_size": 5, "learning_rate": 0.5, "inner_steps": 3, "outer_steps": 7, "record_every": 2}
TENSORS = [field.name for field in dataclasses.fields(Trace) if field.name not in ("refusals", "settings")]
OF_REPLICATES = [name for name in TENSORS if name != "steps"]


def run(world: str = "long-answers", estimator="grpo", **changes) -> Trace:
    mdp = WORLDS[world].build()
    return simulate(mdp, WORLDS[world].theta_old(mdp), estimator, **{"replicates": 9, **RUN, **changes})


def assert_same(found: Trace, expected: Trace) -> None:
    for name in TENSORS:
        pair = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*pair, equal_nan=True, **SAME_BITS, msg=f"{name} differs")
    assert described(found) == described(expected)


def described(trace: Trace) -> dict[str, object]:
    """The settings of the trace, tensors as lists."""
    made = vars(trace.settings)
    return {name: x.tolist() if isinstance(x, torch.Tensor) else x for name, x in made.items()}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("world", ["long-answers", "count-mod-3"])
def test_replicates_do_not_depend_on_those_beside_them(engine, world):
    together = run(world, "gspo", engine=engine)
    for first, count in ((0, 1), (1, 1), (2, 7), (4, 4)):
        alone = run(world, "gspo", engine=engine, first_replicate=first, replicates=count)
        for name in OF_REPLICATES:
            part = getattr(together, name)[first : first + count]
            torch.testing.assert_close(getattr(alone, name), part, **SAME_BITS)
    assert len(torch.unique(together.theta, dim=0)) == 9


@pytest.mark.parametrize("engine", ENGINES)
def test_replicates_do_not_depend_on_the_chunks_they_come_in(engine, monkeypatch):
    whole = run(engine=engine, batches="disjoint", prompts_per_step=2)
    monkeypatch.setitem(choose.CHUNK, "cpu", 2)
    assert_same(run(engine=engine, batches="disjoint", prompts_per_step=2), whole)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread is all there is")
@pytest.mark.parametrize("engine", ENGINES)
def test_replicates_do_not_depend_on_threads(engine):
    numba_threads, torch_threads = numba.get_num_threads(), torch.get_num_threads()
    traces = []
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            torch.set_num_threads(threads)
            # Large enough for torch to share its elementwise work among threads.
            traces.append(run(engine=engine, replicates=400, group_size=16, outer_steps=2))
    finally:
        numba.set_num_threads(numba_threads)
        torch.set_num_threads(torch_threads)
    assert_same(*traces)


def test_seeds_differ():
    assert (run(seed=1).theta != run(seed=2).theta).any()


def test_records_do_not_move_anything():
    often, seldom = run(record_every=1), run(record_every=5)
    assert seldom.steps.tolist() == [0, 5] and often.steps.tolist() == list(range(7))
    torch.testing.assert_close(seldom.expected_return, often.expected_return[:, ::5], **SAME_BITS)
    for name in ("theta", "sum_gradient_dot_move", "sum_first_norm_sq", "final_return"):
        torch.testing.assert_close(getattr(seldom, name), getattr(often, name), **SAME_BITS)


class Interrupted(Exception):
    pass


def interrupted_after(saves: int, monkeypatch: pytest.MonkeyPatch, start: Callable[[], object]) -> None:
    """Runs `start` until the state has been saved so often."""
    left, save = [saves], algorithm.save

    def counting(*arguments):
        save(*arguments)
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(algorithm, "save", counting)
        with pytest.raises(Interrupted):
            start()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("world", ["long-answers", "xor"])
@pytest.mark.parametrize("optimizer", [None, Adam()])
def test_an_interrupted_run_goes_on_with_the_same_bits(engine, world, optimizer, tmp_path, monkeypatch):
    changes = {"engine": engine, "optimizer": optimizer}
    whole = run(world, **changes)

    def start() -> Trace:
        return run(world, **changes, folder=tmp_path, save_seconds=0.0)

    interrupted_after(1, monkeypatch, start)
    interrupted_after(3, monkeypatch, start)
    assert_same(start(), whole)
    # Nothing is left to be done: the last state is the result.
    monkeypatch.setattr(algorithm, "engine_of", None)
    assert_same(start(), whole)


def test_each_chunk_has_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setitem(choose.CHUNK, "cpu", 4)
    whole = run()
    interrupted_after(2, monkeypatch, lambda: run(folder=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "replicates-0-3.npz",
        "replicates-4-7.npz",
    ]
    assert_same(run(folder=tmp_path), whole)


@more
@pytest.mark.parametrize("engine", ["tensors", pytest.param("compiled", marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_any_file_operation_goes_on_with_the_same_bits(engine, tmp_path):
    """Really killed, in processes of their own: see killed_simulations.py."""
    here = Path(__file__)
    program = [sys.executable, here.with_name("killed_simulations.py"), engine, tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(here.parents[3])}
    facts = json.loads(subprocess.run(program, check=True, stdout=subprocess.PIPE, env=environment).stdout)
    assert len(facts["statuses"]) > 5 and set(facts["statuses"][:-1]) == {-9} and facts["statuses"][-1] == 0
    assert facts["same"] == [True] * len(facts["statuses"])


def test_a_full_disk_leaves_the_last_state(tmp_path):
    whole = run()
    for n in range(1, 100):
        folder = tmp_path / str(n)
        with faults.at_operation(n, faults.disk_full) as met:
            try:
                run(folder=folder, save_seconds=0.0)
            except (OSError, ValueError) as error:
                ways_out = ("free space or choose another folder", "name another folder with --folder")
                assert any(way_out in str(error) for way_out in ways_out) or n > len(met)
        assert_same(run(folder=folder), whole)
        if len(met) < n:
            break
    assert 5 < n < 99


CHANGES = {
    "seed": 1,
    "group_size": 4,
    "learning_rate": 0.25,
    "inner_steps": 2,
    "outer_steps": 8,
    "record_every": 3,
    "batches": "disjoint",
    "prompts_per_step": 2,
    "optimizer": Adam(),
    "estimator": "dapo",
    "world": "two-prompts",
    "engine": "hybrid",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_of_other_settings_is_refused(change, tmp_path):
    run(folder=tmp_path)
    with pytest.raises(
        ValueError, match=r"replicates-0-8.npz is the state of a simulation with other settings"
    ):
        run(folder=tmp_path, **{change: CHANGES[change]})


def test_a_state_of_another_sampler_is_refused(tmp_path):
    mdp = WORLDS["xor"].build()
    start = WORLDS["xor"].theta_old(mdp)
    settings = RUN | {"replicates": 1, "folder": tmp_path, "engine": "tensors"}
    first = simulate(mdp, start, "grpo", **settings, sampler=top_p(0.9))
    assert_same(simulate(mdp, start, "grpo", **settings, sampler=top_p(0.9)), first)
    for other in (top_p(0.8), top_k(1), None):
        with pytest.raises(ValueError, match="with other settings"):
            simulate(mdp, start, "grpo", **settings, sampler=other)


def test_a_state_of_another_reference_policy_is_refused(tmp_path):
    estimator = dataclasses.replace(ESTIMATORS["grpo"], penalty=kl_loss(k3, 0.5))
    mdp = WORLDS["xor"].build()
    for reference in ([[0.0, 1.0]], [[1.0, 0.0]]):
        settings = RUN | {"replicates": 1, "folder": tmp_path, "theta_ref": reference}
        if reference == [[0.0, 1.0]]:
            simulate(mdp, [[0.0, 0.0]], estimator, **settings)
        else:
            with pytest.raises(ValueError, match="with other settings"):
                simulate(mdp, [[0.0, 0.0]], estimator, **settings)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-300] + bytes(300)]
)
def test_a_damaged_state_is_refused(damage, tmp_path):
    run(folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"not the state of a simulation.*delete it to start anew"):
        run(folder=tmp_path)
