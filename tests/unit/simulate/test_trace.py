"""The logits of the recorded steps: those of the algorithm written out, whole after an interruption."""

import pytest
import torch

from tests.oracles import algorithms
from tests.properties.tolerances import EXACT, SAME_BITS
from tests.unit.simulate.test_state import assert_same, interrupted_after
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.simulate import Trace, simulate
from ticgrpo_theory.simulate.engines import choose
from ticgrpo_theory.worlds import WORLDS

ENGINES = ("compiled", "hybrid", "tensors")
RUN = {"group_size": 5, "learning_rate": 0.5, "inner_steps": 3, "outer_steps": 7}


def run(**changes) -> Trace:
    world = WORLDS["long-answers"]
    mdp = world.build()
    return simulate(mdp, world.theta_old(mdp), "grpo", **{"replicates": 4, **RUN, **changes})


@pytest.mark.parametrize("engine", ENGINES)
def test_the_path_is_that_of_the_algorithm_written_out(engine):
    world = WORLDS["long-answers"]
    mdp = world.build()
    trace = run(engine=engine, record_theta=True, record_every=2)
    reference = algorithms.run(mdp, world.theta_old(mdp), ESTIMATORS["grpo"], replicate=3, **RUN)
    assert trace.path.shape == (4, 4, *trace.theta.shape[1:])
    torch.testing.assert_close(trace.path[3], torch.stack(reference.path[:-1:2]), **EXACT)
    for r in range(4):
        found = [expected_return(mdp, theta) for theta in trace.path[r]]
        torch.testing.assert_close(
            torch.tensor(found, dtype=torch.float64), trace.expected_return[r], **EXACT
        )
    # Partner: the step before is told apart.
    assert (trace.path[3, 1] - reference.path[1]).abs().max() > 1e-3


@pytest.mark.parametrize("engine", ENGINES)
def test_keeping_the_path_moves_nothing(engine):
    without, kept = run(engine=engine), run(engine=engine, record_theta=True)
    assert without.path.shape == (4, 0, *without.theta.shape[1:])
    for name in ("theta", "expected_return", "gradient_norm_sq", "drift", "sum_first_norm_sq"):
        torch.testing.assert_close(getattr(without, name), getattr(kept, name), **SAME_BITS)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_path_is_whole_after_an_interruption(engine, tmp_path, monkeypatch):
    monkeypatch.setitem(choose.CHUNK, "cpu", 3)
    changes = {"engine": engine, "record_theta": True}
    whole = run(**changes)

    def start() -> Trace:
        return run(**changes, folder=tmp_path, save_seconds=0.0)

    interrupted_after(3, monkeypatch, start)
    assert_same(start(), whole)
    with pytest.raises(ValueError, match="with other settings"):
        run(engine=engine, folder=tmp_path)


def test_a_frozen_replicate_has_no_path_after_its_last_step():
    mdp = WORLDS["xor"].build()
    schedule = [0.5, 0.5, 1e200, 0.5]
    trace = simulate(
        mdp,
        [[0.4, -0.4]],
        "stale",
        **RUN | {"learning_rate": schedule.__getitem__, "outer_steps": 4, "group_size": 64},
        replicates=2,
        record_theta=True,
    )
    assert (trace.frozen == 2).all()
    assert torch.isfinite(trace.path[:, :3]).all() and torch.isnan(trace.path[:, 3]).all()
    torch.testing.assert_close(trace.path[:, 2], trace.theta, **SAME_BITS)
