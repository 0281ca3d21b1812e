"""Algorithms 1 and 2 of arXiv:2508.02833 v2 for many replicates at once, every estimator by its one formula.

for n = 0..N-1:   theta_old = theta_{n,0};  draw groups from pi_theta_old
    for k = 0..K-1:   theta_{n,k+1} = theta_{n,k} + eta_n g_hat(theta_{n,k}; theta_old, group)
    theta_{n+1,0} = theta_{n,K}
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.resolve import EstimatorLike, resolve
from ticgrpo_theory.experiment.atomic import check_writable
from ticgrpo_theory.inputs.numbers import finite_number, shown, whole_number
from ticgrpo_theory.simulate.engines.choose import Choice, choose_engine, engine_of
from ticgrpo_theory.simulate.engines.engine import Engine
from ticgrpo_theory.simulate.engines.engine_tensors import Tensors
from ticgrpo_theory.simulate.passes import outer_step
from ticgrpo_theory.simulate.settings import (
    Adam,
    Arguments,
    OfPolicy,
    Schedule,
    Settings,
    check_size,
    settings_of,
)
from ticgrpo_theory.simulate.state import State, file_of, load, save, start_state
from ticgrpo_theory.simulate.trace import RunSettings, Trace
from ticgrpo_theory.worlds.mdp import TokenMDP


@dataclass(frozen=True)
class Kept:
    """Where the state of some replicates is kept, and how."""

    path: Path
    every: float
    """Seconds between two writes."""
    trusted: bool
    """Whether a state is taken up though functions of the user's own were edited since."""

    def due(self, saved: float) -> bool:
        return time.monotonic() - saved >= self.every


STRIDE = 64
"""Most outer steps in one call of an engine: between two of them the clock is read and Ctrl-C is heard."""


def simulate(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    estimator: EstimatorLike,
    *,
    group_size: int,
    learning_rate: float | Schedule,
    inner_steps: int,
    outer_steps: int,
    replicates: int,
    seed: int = 0,
    batches: str = "reused",
    prompts_per_step: int = 1,
    record_every: int = 1,
    record_theta: bool = False,
    optimizer: Adam | None = None,
    theta_ref: Tensor | ArrayLike | None = None,
    sampler: OfPolicy | None = None,
    first_replicate: int = 0,
    engine: str = "auto",
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    folder: Path | str | None = None,
    save_seconds: float = 60.0,
    trust: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Trace:
    """R replicates of N outer steps of K inner steps theta += eta g_hat(theta), all from `theta` [S, V].

    `batches="reused"`: the same group in all K inner steps; "disjoint": K groups, one for each. With several
    prompts per step the gradients of that many independent groups are averaged. `learning_rate` is eta, or a
    callable n -> eta of outer step n. Plain ascent unless `optimizer` is given. `record_theta` keeps
    the logits of the recorded steps too. `sampler`, such as top_p(0.9) of ticgrpo_theory.worlds.samplers,
    makes of theta_{n,0} the policy that draws; every outer step makes it anew.

    Replicates are numbered from `first_replicate`; what happens to one depends on the seed and its number
    alone, bit for bit, not on the threads, the replicates beside it, or interruptions. With a `folder` the
    state is kept there every `save_seconds`, and a run that was killed goes on; the files remain when it is
    done. A state from before functions of yours were edited is refused, unless you `trust` it.
    `progress` is called now and then with the number of outer steps done, those of all replicates added
    up, which ends at R N.

    `engine`: "compiled" (whole outer steps, the formula included, in compiled code), "hybrid" (the formula in
    torch), "tensors" (everything in torch, on `device` and in `dtype`); "auto" takes the first that can.
    They agree to rounding, and each with itself to the bit.
    `Trace.settings` keeps all of this; theorems and certificates compare it with their own arguments.

    Source: arXiv:2508.02833 v2, Algorithms 1 and 2.
    Raises ValueError for bad logits, counts below 1, step sizes that are not positive, unknown names, a
    penalty without theta_ref, an engine that cannot evaluate the estimator, and a folder that holds a run of
    other settings. A replicate whose weights or logits become non-finite is frozen, and `Trace.frozen` says
    where.
    """
    given = Arguments(
        mdp=mdp,
        theta=theta,
        estimator=resolve(estimator),
        group_size=group_size,
        learning_rate=learning_rate,
        inner_steps=inner_steps,
        outer_steps=outer_steps,
        batches=batches,
        prompts_per_step=prompts_per_step,
        record_every=record_every,
        record_theta=record_theta,
        optimizer=optimizer,
        theta_ref=theta_ref,
        seed=seed,
        sampler=sampler,
    )
    settings = settings_of(given)
    if folder is not None and not isinstance(folder, str | Path):
        raise ValueError(f"folder = {shown(folder)}: give a path, or None to keep no state")
    if progress is not None and not callable(progress):
        raise ValueError(f"progress = {shown(progress)}: give a function of the steps done, or None")
    finite_number("save_seconds", save_seconds, "seconds between two states in `folder`")
    R = whole_number("replicates", replicates, 1, "runs with random numbers of their own")
    first = whole_number("first_replicate", first_replicate, 0, "the number of the first replicate")
    check_size(settings, R)
    if folder is not None:
        check_writable(Path(folder), "folder")
    choice = choose_engine(engine, device, dtype, settings)
    states, numbers = [], []
    for begin in range(first, first + R, choice.chunk):
        count = min(choice.chunk, first + R - begin)
        path = None if folder is None else file_of(Path(folder), begin, count)

        def report(
            step: int, before: int = (begin - first) * settings.outer_steps, count: int = count
        ) -> None:
            if progress is not None:
                progress(before + count * step)

        kept = None if path is None else Kept(path, save_seconds, trust)
        states.append(finished(settings, choice, begin, count, kept, report))
        numbers.append(begin - first)
    return trace_of(settings, choice, first, states, numbers)


def finished(
    settings: Settings,
    choice: Choice,
    first_replicate: int,
    replicates: int,
    kept: Kept | None,
    report: Callable[[int], None],
) -> State:
    """The state of these replicates after N outer steps, taken up where the file left it."""
    stamp = f"{settings.digest} {choice.name} {choice.device} {choice.dtype}"
    state = None if kept is None else load(stamp, settings.own, kept.path, kept.trusted)
    if state is None:
        state = start_state(settings, replicates)
    elif state.step == settings.outer_steps:
        report(state.step)
        return state
    engine = engine_of(choice, settings, state, first_replicate)
    saved = time.monotonic()
    while state.step < settings.outer_steps:
        record, past = divmod(state.step, settings.record_every)
        if past == 0:
            recorded_step(settings, engine, state, record)
        else:
            next_record = (record + 1) * settings.record_every
            engine.advance(min(next_record, settings.outer_steps, state.step + STRIDE))
        report(state.step)
        # The state after the last step is saved once its return is known.
        if kept is not None and kept.due(saved) and state.step < settings.outer_steps:
            engine.sync()
            save(state, stamp, settings.own, kept.path)
            saved = time.monotonic()
    state.final[:] = engine.measure()[0]
    engine.sync()
    if kept is not None:
        save(state, stamp, settings.own, kept.path)
    return state


def recorded_step(settings: Settings, engine: Engine | Tensors, state: State, record: int) -> None:
    """Take outer step n, and keep J(theta_{n,0}), ||g_n||^2, ||Delta_n|| and, if wanted, theta_{n,0}."""
    alive = state.frozen < 0
    returns, squares = engine.measure()
    start = theta_of(engine, state) if settings.record_theta else None
    moved = engine.advance(state.step + 1)
    state.returns[alive, record], state.squares[alive, record] = returns[alive], squares[alive]
    if start is not None:
        state.path[alive, record] = start[alive]
    alive = state.frozen < 0
    state.drift[alive, record] = np.sqrt(moved[alive])


def theta_of(engine: Engine | Tensors, state: State) -> np.ndarray:
    """theta_{n,0} of every replicate [R, S, V]; a copy, since engines move the logits in place."""
    engine.sync()
    return state.theta.copy()


def run_settings(settings: Settings, choice: Choice, first_replicate: int) -> RunSettings:
    """The request as its trace carries it."""
    reference = settings.theta_ref
    return RunSettings(
        world=settings.world,
        estimator=settings.estimator,
        group_size=settings.group_size,
        learning_rates=torch.from_numpy(settings.learning_rates.copy()),
        inner_steps=settings.inner_steps,
        outer_steps=settings.outer_steps,
        batches=settings.batches,
        prompts_per_step=settings.prompts_per_step,
        optimizer=settings.optimizer,
        theta_ref=None if reference is None else reference.clone(),
        seed=settings.seed,
        first_replicate=first_replicate,
        record_every=settings.record_every,
        engine=choice.name,
        device=str(choice.device),
        dtype=choice.dtype,
        sampler=settings.sampler,
    )


def trace_of(
    settings: Settings,
    choice: Choice,
    first_replicate: int,
    states: Sequence[State],
    numbers: Sequence[int],
) -> Trace:
    """The states of all chunks, whose first replicates have these `numbers`, as one trace."""

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(state, name) for state in states]))

    totals = joined("totals")
    refusals: dict[int, str] = {}
    for number, state in zip(numbers, states, strict=True):
        refusals |= {number + r: text for r, text in state.refusals.items()}
    return Trace(
        steps=torch.from_numpy(settings.steps),
        expected_return=joined("returns"),
        gradient_norm_sq=joined("squares"),
        drift=joined("drift"),
        path=joined("path"),
        initial_return=joined("returns")[:, 0].clone(),
        final_return=joined("final"),
        sum_gradient_dot_move=totals[:, outer_step.ASCENT],
        sum_move_norm_sq=totals[:, outer_step.MOVED],
        sum_gradient_dot_first=totals[:, outer_step.FIRST_ASCENT],
        sum_first_norm_sq=totals[:, outer_step.FIRST_SQUARE],
        theta=joined("theta"),
        frozen=joined("frozen"),
        refusals=refusals,
        settings=run_settings(settings, choice, first_replicate),
    )
