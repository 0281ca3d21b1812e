"""What a bound asks of the run that a trace is of, decided from the settings that the trace carries.

What contradicts the question (another world, estimator, G, eta, K, other batches) raises ValueError with the
field, both values and the way out. What leaves a bound without its proof (a schedule, Adam) is a Hypothesis
that fails.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from ticgrpo_theory.bounds.constants import InstanceConstants
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.inputs.numbers import shown
from ticgrpo_theory.simulate.trace import Trace
from ticgrpo_theory.stats.rounding import ROUNDING
from ticgrpo_theory.worlds.mdp import TokenMDP, check_mdp


@dataclass(frozen=True)
class Hypothesis:
    """What a theorem asks for, and whether it holds here."""

    name: str
    holds: bool
    detail: str


class Conditional:
    """What is true of a run where all its hypotheses hold."""

    hypotheses: tuple[Hypothesis, ...]

    @property
    def applies(self) -> bool:
        return all(hypothesis.holds for hypothesis in self.hypotheses)

    @property
    def failed(self) -> str:
        """The hypotheses that fail, in words; "" where all hold."""
        return "; ".join(f"{h.name}: {h.detail}" for h in self.hypotheses if not h.holds)


def check_world(mdp: TokenMDP, trace: Trace) -> None:
    """Raise ValueError unless the trace was simulated in a world of these tables."""
    check_mdp("mdp", mdp)
    if not isinstance(trace, Trace):
        raise ValueError(f"trace = {shown(trace)} is no Trace: give what simulate(...) returns")
    given, made = mdp.digest, trace.settings.world
    if given != made:
        raise ValueError(
            f"world = {given[:12]} is given, and the trace was simulated in world {made[:12]} "
            f"(digests): transitions, rewards, lengths, rows or prompt weights differ; give the mdp "
            f"that was simulated"
        )


def check_constants(constants: InstanceConstants) -> None:
    """Raise ValueError for what are no constants."""
    if not isinstance(constants, InstanceConstants):
        raise ValueError(
            f"constants = {shown(constants)} are none: give instance_constants(mdp, estimator, ...)"
        )


def check_settings(constants: InstanceConstants, trace: Trace) -> None:
    """Raise ValueError unless world, estimator, G, eta and K of the constants are those of the trace.

    Constants that were not given an argument have none to compare; under a schedule there is no eta to
    compare, and `plain_ascent` says so.
    """
    check_world(constants.mdp, trace)
    if trace.settings.sampler is not None:
        raise ValueError(
            f"the groups of the trace were drawn by {trace.settings.sampler}, and the constants are those of "
            f"groups of theta_old: simulate without a sampler"
        )
    for name in ("estimator", "group_size", "learning_rate", "inner_steps"):
        made = getattr(trace.settings, name)
        if name in constants and made is not None:
            compare(name, constants.values[name], made, f"instance_constants(..., {name}={{made}})")


def compare(name: str, given: Any, made: Any, way_out: str) -> None:
    """Raise ValueError where what is given is not what the trace was made with."""
    # Two step sizes that were meant to be one may be 0.3 / 4 and 0.075.
    rates = isinstance(given, float) and isinstance(made, float)
    if math.isclose(given, made, rel_tol=ROUNDING) if rates else given == made:
        return
    said, true = (name_of(x) if name == "estimator" else str(x) for x in (given, made))
    if said == true:
        said, true = f"{said} (one object)", f"{true} (another object of that name)"
    raise ValueError(
        f"{name} = {said} is given, and the trace was made with {name} = {true}: give "
        f"{way_out.format(made=true)}, or simulate with {name} = {said}"
    )


def rounding_of(trace: Trace | None, value: float) -> float:
    """What rounding may add to a return J of this size: that of a run, in its precision."""
    single = trace is not None and trace.settings.dtype is not torch.float64
    return (1e-5 if single else 1e-9) * max(1.0, abs(value))


def plain_ascent(trace: Trace | None) -> tuple[Hypothesis, ...]:
    """theta + eta g_hat with one eta, which every proof of `drift` and of the theorems rests on."""
    if trace is None:
        return ()
    made = trace.settings
    low, high = float(made.learning_rates.min()), float(made.learning_rates.max())
    return (
        Hypothesis("plain ascent", made.optimizer is None, f"optimizer = {made.optimizer}"),
        Hypothesis("eta is constant", made.learning_rate is not None, f"eta from {low:.4g} to {high:.4g}"),
    )


def batches_of(batches: str | None, trace: Trace | None) -> Batches:
    """Whether inner steps share their groups; None: as the trace has it, REUSED without a trace.

    Raises ValueError for an unknown name, and for another one than the trace was made with.
    """
    given = None if batches is None else Batches.of(batches)
    if trace is None:
        return given or Batches.REUSED
    made = trace.settings.batches
    if given is not None:
        compare("batches", given.made(trace.settings.inner_steps), made, "batches={made!r}")
    return made


def check_double(trace: Trace) -> None:
    """Raise ValueError for sums kept in single precision, whose rounding is no violation."""
    if trace.settings.dtype is not torch.float64:
        raise ValueError(
            f"dtype = {trace.settings.dtype}: sums of the run are rounded by more than the certificate "
            f"tells from a violation; simulate with dtype=torch.float64"
        )


def check_whole(trace: Trace) -> None:
    """Raise ValueError where a sum over all outer steps cannot be formed from the records."""
    N = trace.settings.outer_steps
    if trace.steps.tolist() != list(range(N)):
        raise ValueError(
            f"the trace has records of outer steps {trace.steps.tolist()[:4]}... of N = {N}: the theorems "
            f"average over every step; simulate with record_every=1"
        )
    frozen = (trace.frozen >= 0).nonzero().flatten().tolist()
    if frozen:
        raise ValueError(
            f"replicates {frozen[:4]} of the trace became non-finite and have no mean over all steps: lower "
            f"the learning rate, or leave them out"
        )
