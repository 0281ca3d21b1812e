"""The estimator's formula compiled, so that whole outer steps run without leaving compiled code."""

import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import torch
from numba import types

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.simulate.engines.engine import Engine
from ticgrpo_theory.simulate.engines.formula_to_loops import Translation
from ticgrpo_theory.simulate.engines.recorder import Untraceable, record
from ticgrpo_theory.simulate.passes import outer_step
from ticgrpo_theory.simulate.passes.workspace import Formula
from ticgrpo_theory.simulate.settings import Settings
from ticgrpo_theory.simulate.state import State
from ticgrpo_theory.simulate.token_weights import needs_moments
from ticgrpo_theory.worlds.compiling import index_of, kernel
from ticgrpo_theory.worlds.kernels import vexp

OVERFLOW = 710.0
"""exp of this is infinite in float64, and `vexp` is right up to here."""


@kernel
def exponential(x: float) -> float:
    """exp(x) of any x."""
    return vexp(min(x, OVERFLOW))


ROW, TABLE, FLAGS = types.float64[::1], types.float64[:, ::1], types.boolean[:, ::1]
BY_TOKEN, BY_RESPONSE = ("i", "t"), ("i",)


@dataclass(frozen=True)
class Compiled:
    """The two halves of an estimator, for one group; they share `scratch` floats of scratch.

    coefficients(reward [G], mask [T, G], scratch, out [G])                      scale A, once for each group
    weights(logp, logp_old [T, G], coefficients [G], mask, scratch, out [T, G])  c, in every inner step
    """

    coefficients: Callable
    weights: Callable
    scratch: int


@functools.lru_cache(maxsize=256)
def compiled(estimator: Estimator, group_size: int, horizon: int) -> Compiled:
    """The formulas of `estimator` for groups of this size; Untraceable where they cannot be compiled."""
    G, T = group_size, horizon
    sizes = {"i": G, "t": T}
    logp = -1.0 - torch.arange(G * T, dtype=torch.float64).reshape(G, T) / (G * T)
    mask = torch.ones(G, T, dtype=torch.bool)
    reward = torch.arange(G, dtype=torch.float64)

    def coefficients(reward: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return estimator.advantages(Batch(logp, logp, reward, mask, horizon=T)) * estimator.scales(mask, T)

    def weights(logp, logp_old, A, mask) -> torch.Tensor:
        return estimator.response_weights(logp - logp_old, A, mask, None, logp_old)

    once = Translation(
        record(coefficients, (reward, mask)),
        [(BY_RESPONSE, "reward[i]"), (BY_TOKEN, "mask[t, i]")],
        sizes,
    )
    always = Translation(
        # One tensor for two arguments would be recorded as one argument.
        record(weights, (logp.clone(), logp, reward - 0.5, mask)),
        [
            (BY_TOKEN, "logp[t, i]"),
            (BY_TOKEN, "logp_old[t, i]"),
            (BY_RESPONSE, "A[i]"),
            (BY_TOKEN, "mask[t, i]"),
        ],
        sizes,
    )
    made = (
        build(once.source("coefficients", ("reward", "mask"), "out[i]", "i"), (ROW, FLAGS, ROW, ROW)),
        build(
            always.source("weights", ("logp", "logp_old", "A", "mask"), "out[t, i]", "ti"),
            (TABLE, TABLE, ROW, FLAGS, ROW, TABLE),
        ),
    )
    return Compiled(*made, scratch=max(once.loops.scratch, always.loops.scratch, 1))


def build(source: str, arguments: Sequence[types.Type]) -> Callable:
    """The only function of the source as a C function that kernels can be given; kept on disk by its text."""
    namespace = {"__name__": __name__, "math": math, "exp": exponential}
    file = source_file(exponential, source + repr(arguments))
    exec(compile(source, str(file or "<formula>"), "exec"), namespace)
    (function,) = (x for x in namespace.values() if inspect.isfunction(x))
    return numba.cfunc(types.void(*arguments), error_model="numpy", cache=file is not None)(function)


def source_file(called: Callable, text: str) -> Path | None:
    """A file for the source of a function that is written here, beside the machine code of what it calls.

    numba keeps the machine code of a function with the file it stands in. The name has what the text says and
    what is compiled into it, so that a file is never of another text; None where the folder takes no files.
    """
    index = index_of(called)
    mark = hashlib.sha256(repr((text, index._source_stamp, numba.__version__)).encode()).hexdigest()
    file = Path(index._index_path).parent / f"formula_{mark[:24]}.loops"
    try:
        if not file.exists():
            replace_files({file: text.encode()})
    except OSError:
        return None
    return file


def obstacle(settings: Settings) -> str:
    """Why the formula cannot be compiled; "" if it can."""
    estimator = settings.estimator
    if not isinstance(estimator, Estimator):
        return "a callable may do anything"
    if not estimator.properties.known:
        return "it has parts that are not of the catalogue, which see one group at a time"
    if estimator.penalty is not None:
        return f"the penalty {estimator.penalty!r} is differentiated by torch"
    if estimator.correction is not None:
        return "its correction reads a second ratio"
    if needs_moments(estimator):
        return "its advantage changes with the moments of the reward in every outer step"
    try:
        compiled(estimator, settings.group_size, settings.mdp.horizon)
    except Untraceable as refusal:
        return str(refusal)
    return ""


class Fused(Engine):
    """Outer steps of all replicates in one compiled call."""

    def __init__(self, settings: Settings, state: State, first_replicate: int) -> None:
        super().__init__(settings, state, first_replicate)
        G, T = settings.group_size, settings.mdp.horizon
        assert isinstance(settings.estimator, Estimator)
        made, work = compiled(settings.estimator, G, T), self.work
        self.formula = Formula(
            made.coefficients,
            made.weights,
            scratch=np.empty((len(state.theta), made.scratch)),
            coefficient=np.empty_like(work.reward),
            token_weights=np.empty_like(work.logp),
        )

    def advance(self, last: int) -> np.ndarray:
        """Takes the outer steps up to `last`; ||Delta||^2 [R] of the last one."""
        graphs, state = self.settings.graphs, self.state
        moving = (self.plan, self.replicates, self.work, self.formula)
        outer_step.run(graphs, self.tree, *moving, state.step, last)
        state.step = last
        return self.replicates.sums[:, outer_step.MOVED]
