"""The two convergence theorems with explicit constants, for one prompt and one kappa for all responses.

With E[g_hat_0] = c g + b, g = grad J, c_min <= c <= c_max, ||b|| <= b_bar, and
||Delta / (eta K) - g_hat_0|| <= e, summing J(theta_{n+1}) - J(theta_n) >= <g_n, Delta_n> - (L_J / 2)
||Delta_n||^2 over N outer steps gives

    1:  (1/N) sum E||g_n||^2 <= 2 (J* - J_1) / (c_min N eta K) + (L_J / c_min) eta K (sqrt Q + e)^2
                                + (b_bar + e)^2 / c_min^2
    2:  where tau <= 1/8 and L_J eta K c_max (1 + tau)^2 <= 1/8,
        (1/N) sum E||g_n||^2 <= 2 (J* - J_1) / (c_min N eta K) + (81/64) (L_J / c_min) eta K V / G
                                + 4 tau^2 V / (c_min^2 G) + 5.4 b_bar^2 / c_min^2

Both for plain ascent with a constant eta. K disjoint groups: V / G becomes V / (K G), e is Lambda eta (K-1) D
/ 2 alone, and theorem 2, which needs tau, is left with fields that do not drift.

Source: arXiv:2508.02833 v2, Theorems 5.1 and 5.2, which print O(eta K) + O(1/|G|) without the first term.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.bounds.best_return import Optimum, optimum
from ticgrpo_theory.bounds.constants import InstanceConstants
from ticgrpo_theory.bounds.hypotheses import (
    Conditional,
    Hypothesis,
    batches_of,
    check_constants,
    check_settings,
    check_whole,
    compare,
    plain_ascent,
    rounding_of,
)
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.inputs.numbers import finite_number, integer
from ticgrpo_theory.simulate.trace import Trace


@dataclass(frozen=True, eq=False)
class Bound(Conditional):
    """left <= right, or right = inf where a hypothesis fails."""

    name: str
    right: float
    terms: Mapping[str, float]
    """The terms of the right side by name; empty where a hypothesis fails."""
    hypotheses: tuple[Hypothesis, ...]
    left_of_each: Float[Tensor, " R"] = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    """(1/N) sum_n ||g_n||^2 of every replicate; empty without a trace."""

    @property
    def left(self) -> float | None:
        """Mean over replicates; None without a trace."""
        return float(self.left_of_each.mean()) if len(self.left_of_each) else None

    @property
    def standard_error(self) -> float | None:
        """Of the left side; None for fewer than two replicates."""
        R = len(self.left_of_each)
        return float(self.left_of_each.std()) / math.sqrt(R) if R > 1 else None

    @property
    def slack(self) -> float | None:
        """right - left; inf where a hypothesis fails, None without a trace."""
        return None if self.left is None else self.right - self.left

    @property
    def holds(self) -> bool | None:
        """Whether the mean left side is at most the right side; None without a trace."""
        return None if self.slack is None else self.slack >= 0


@dataclass(frozen=True, eq=False)
class Run:
    """What the theorems know of a run besides its constants."""

    constants: InstanceConstants
    initial_return: float
    outer_steps: int
    best: Optimum
    batches: Batches
    left: Float[Tensor, " R"]
    ascent: tuple[Hypothesis, ...]
    """What the settings of the trace say of plain ascent with a constant eta; () without a trace."""

    @property
    def path(self) -> float:
        """eta K."""
        return self.constants.learning_rate * self.constants.inner_steps

    @property
    def gap(self) -> float:
        """2 (J* - J_1) / (c_min N eta K)."""
        # J_1 may exceed J* by rounding.
        difference = max(self.best.value - self.initial_return, 0.0)
        return 2 * difference / (self.constants.c_min * self.outer_steps * self.path)

    @property
    def e(self) -> float:
        """Bound on ||Delta / (eta K) - g_hat_0||."""
        c = self.constants
        if self.batches.made(c.inner_steps) is Batches.REUSED:
            return c.e
        return c.Lambda * c.learning_rate * (c.inner_steps - 1) * c.D / 2

    def known(self, *names: str) -> list[Hypothesis]:
        """Plain ascent, and that each constant is there; ValueError where an argument is missing."""
        c = self.constants
        c.require("group_size", "learning_rate", "inner_steps", *(x for x in names if x in c.missing))
        details = {name: f"{getattr(c, name):.4g}" if name in c else c.why_not(name) for name in names}
        known = [Hypothesis(f"{name} is known", name in c, detail) for name, detail in details.items()]
        return [*self.ascent, *known]

    def bound(
        self,
        name: str,
        hypotheses: list[Hypothesis],
        conditions: Callable[[], list[Hypothesis]],
        terms: Callable[[], dict[str, float]],
    ) -> Bound:
        """Conditions are formed once the constants are known, terms once all of that holds."""
        if all(h.holds for h in hypotheses):
            hypotheses = hypotheses + conditions()
        found = terms() if all(h.holds for h in hypotheses) else {}
        right = sum(found.values()) if found else math.inf
        return Bound(name, right, found, tuple(hypotheses), self.left)


def theorem_1(
    constants: InstanceConstants,
    trace: Trace | None = None,
    *,
    initial_return: float | None = None,
    outer_steps: int | None = None,
    best: Optimum | None = None,
    batches: str | None = None,
) -> Bound:
    """(1/N) sum E||g_n||^2 <= gap + step + bias, as at the head of this module, N outer steps from J_1.

    A trace (every step recorded) gives J_1, N, the batches and the left side; without it `initial_return`,
    `outer_steps` and `batches` ("reused" unless given) do. J* is `optimum(mdp)` unless given. A hypothesis
    that fails is reported, and the right side is inf, as it is where a term is beyond float64; those on the
    ascent are decided from the trace. The left side is given for each replicate [R], in squared units of
    grad J, without a factor.
    Source: arXiv:2508.02833 v2, Theorem 5.1, corrected. Raises ValueError for arguments that are missing, and
    for a trace of other settings than the constants or the arguments say.
    """
    run = run_of(constants, trace, initial_return, outer_steps, best, batches)
    c = constants

    def terms() -> dict[str, float]:
        return {
            "gap": run.gap,
            "step": c.L_J / c.c_min * run.path * squared(math.sqrt(c.Q) + run.e),
            "bias": squared(c.b_bar + run.e) / c.c_min**2,
        }

    wanted = run.known("L_J", "c_min", "b_bar", "Q", "e")
    return run.bound("theorem 1", wanted, lambda: [slope(c)], terms)


def theorem_2(
    constants: InstanceConstants,
    trace: Trace | None = None,
    *,
    initial_return: float | None = None,
    outer_steps: int | None = None,
    best: Optimum | None = None,
    batches: str | None = None,
) -> Bound:
    """(1/N) sum E||g_n||^2 <= gap + noise + drift + bias where steps are small, as at the head of the module.

    Arguments, left side [R] and errors (ValueError) as for theorem 1.
    Source: arXiv:2508.02833 v2, Theorem 5.2, corrected.
    """
    run = run_of(constants, trace, initial_return, outer_steps, best, batches)
    c = constants

    def conditions() -> list[Hypothesis]:
        step = c.L_J * run.path * c.c_max * squared(1 + c.tau)
        found = [
            slope(c),
            Hypothesis("tau <= 1/8", c.tau <= 1 / 8, f"tau = {c.tau:.4g}"),
            Hypothesis(
                "L_J eta K c_max (1 + tau)^2 <= 1/8", step <= 1 / 8, f"{step:.4g}, c_max = {c.c_max:.4g}"
            ),
        ]
        if run.batches is Batches.DISJOINT:
            detail = f"disjoint groups, tau = {c.tau:.4g}"
            found.append(Hypothesis("one group is reused, or nothing drifts", c.tau == 0, detail))
        return found

    def terms() -> dict[str, float]:
        groups = run.batches.drawn(c.inner_steps)
        noise = c.V / (groups * c.group_size)
        return {
            "gap": run.gap,
            "noise": 81 / 64 * c.L_J / c.c_min * run.path * noise,
            "drift": 4 * c.tau**2 * noise / c.c_min**2,
            "bias": 5.4 * c.b_bar**2 / c.c_min**2,
        }

    return run.bound("theorem 2", run.known("L_J", "c_min", "c_max", "b_bar", "V", "tau"), conditions, terms)


def squared(x: float) -> float:
    """x^2; inf beyond float64, where x**2 would be an OverflowError."""
    return x**2 if abs(x) < 1e154 else math.inf


def slope(constants: InstanceConstants) -> Hypothesis:
    return Hypothesis("c_min > 0", constants.c_min > 0, f"c_min = {constants.c_min:.4g}")


def run_of(
    constants: InstanceConstants,
    trace: Trace | None,
    initial_return: float | None,
    outer_steps: int | None,
    best: Optimum | None,
    batches: str | None,
) -> Run:
    """The run, its numbers checked."""
    check_constants(constants)
    left = torch.empty(0, dtype=torch.float64)
    if trace is not None:
        check_settings(constants, trace)
        check_whole(trace)
        left = trace.gradient_norm_sq.mean(dim=1)
        J_1, N = float(trace.initial_return[0]), trace.settings.outer_steps
        if initial_return is not None and not abs(initial_return - J_1) <= rounding_of(trace, J_1):
            compare("initial_return", initial_return, J_1, "initial_return={made}")
        if outer_steps is not None:
            compare("outer_steps", outer_steps, N, "outer_steps={made}")
        initial_return, outer_steps = J_1, N
    if initial_return is None or outer_steps is None:
        raise ValueError(
            f"initial_return = {initial_return}, outer_steps = {outer_steps}: give both, J(theta_1) and N, "
            f"or a trace, which has them"
        )
    finite_number("initial_return", initial_return, "J(theta_1)")
    if integer("outer_steps", outer_steps, 1, "N counts the outer steps") < 1:
        raise ValueError(f"outer_steps = {outer_steps}: the left side is a mean over N >= 1 outer steps")
    best = optimum(constants.mdp) if best is None else best
    check_best(best, initial_return, trace)
    made = batches_of(batches, trace)
    return Run(constants, initial_return, outer_steps, best, made, left, plain_ascent(trace))


def check_best(best: Optimum, initial_return: float, trace: Trace | None) -> None:
    """Raise ValueError for a J* below some J that is known: that of the start, or one that the trace met."""
    met = initial_return if trace is None else float(trace.expected_return.max())
    if not met <= best.value + rounding_of(trace, best.value):
        raise ValueError(
            f"J* = {best.value} is below J = {met}, which a policy of this world is said to have: give the "
            f"initial_return of this world, and a J* that no policy exceeds, as optimum(mdp) finds it"
        )
