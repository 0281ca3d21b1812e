"""The constants of one instance, by name: those that are proved, those that need an argument, and why not.

    world                L_J = rho d_max, B, d_max, nu, rho, l_min, horizon
    + estimator          kappa, B_Phi, lambda_eps, Q, V
    + group_size         c_min, c_max, b_bar: E[g_hat_0] = c grad J + b, c_min <= c <= c_max, ||b|| <= b_bar;
                         c_G, a function of the policy, with c = kappa c_G
    + learning_rate, K   row (of the table in drift.py), Lambda, D, tau, e

Source: derived here and in `first_gradient.py`, `drift.py`; the assumptions are those of arXiv:2508.02833 v2,
Sec. 5.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ticgrpo_theory.bounds import drift, first_gradient
from ticgrpo_theory.bounds.geometry import Geometry, geometry
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.resolve import AnyEstimator, EstimatorLike, check_group_size, resolve
from ticgrpo_theory.inputs.numbers import number_or_nan
from ticgrpo_theory.worlds.mdp import TokenMDP

MEANING = {
    "estimator": "as given",
    "group_size": "as given: G",
    "learning_rate": "as given: eta",
    "inner_steps": "as given: K",
    "L_J": "grad J is L_J-Lipschitz: rho d_max",
    "B": "norm of the score of a whole response",
    "d_max": "expected visits of a row of logits, whatever the policy",
    "nu": "visits of a row by one response",
    "rho": "half the range of the reward",
    "l_min": "length of the shortest response",
    "horizon": "limit on the length of a response",
    "kappa": "factor of a response in g_hat: G times its scale",
    "B_Phi": "norm of kappa times the score of a response",
    "lambda_eps": "log-ratio below which no weight is clipped",
    "Q": "E||g_hat_0||^2, whatever the policy",
    "V": "G times the variance of g_hat_0, whatever the policy",
    "c_min": "least multiple of grad J that g_hat_0 estimates",
    "c_max": "largest multiple of grad J that g_hat_0 estimates",
    "b_bar": "norm of what E[g_hat_0] has besides that multiple",
    "c_G": "that multiple over kappa, a function of the policy: constants.c_G(theta)",
    "row": "which bound on the drift within K steps applies",
    "Lambda": "Lipschitz constant of the field along the K steps",
    "D": "norm of g_hat in every one of the K steps",
    "tau": "||Delta / (eta K) - g_hat_0|| <= tau ||g_hat_0||",
    "e": "bound on ||Delta / (eta K) - g_hat_0|| in the theorems: min(tau sqrt(Q), Lambda eta (K-1) D / 2)",
}
"""What each name stands for."""

ARGUMENTS = "instance_constants(mdp, estimator, group_size, learning_rate, inner_steps)"


class AbsentConstant(AttributeError, ValueError):
    """A constant that needs an argument, or that does not exist for this instance."""


@dataclass(frozen=True, eq=False)
class InstanceConstants:
    """Constants and given arguments as attributes; one that is not there raises an error that says why.

    `values` are those that are there, `notes` how a value is known where that is not plain; `missing` maps
    the others to the argument that would give them, `absent` to the reason why no argument would.
    """

    mdp: TokenMDP
    values: Mapping[str, Any]
    notes: Mapping[str, str]
    missing: Mapping[str, str]
    absent: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "values" not in self.__dict__:
            raise AttributeError(name)
        if name in self.values:
            return self.values[name]
        raise AbsentConstant(f"{name}: {self.why_not(name)}")

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def require(self, *names: str) -> None:
        """Raise the error of the first of these that is not there."""
        for name in names:
            getattr(self, name)

    @property
    def responses_in_a_group(self) -> int:
        """G, which a run needs to be finite. Raises ValueError for math.inf."""
        if self.group_size == math.inf:
            raise ValueError(
                "group_size = inf: no run draws infinite groups; give the G that it was made with"
            )
        return int(self.group_size)

    def why_not(self, name: str) -> str:
        """Why there is no constant of this name."""
        if name in self.missing:
            return f"needs {self.missing[name]}: give it in {ARGUMENTS}"
        if name in self.absent:
            return f"does not apply: {self.absent[name]}"
        return f"no constant of this name; there are {', '.join(MEANING)}"

    def describe(self) -> str:
        """One line for each name: value and meaning, or why it is absent."""
        lines = []
        for name, meaning in MEANING.items():
            if name in self.values:
                value = self.values[name]
                shown = f"{value:.6g}" if isinstance(value, float) else str(value)
                shown = name_of(value) if name == "estimator" else "f(theta)" if callable(value) else shown
                note = f" ({self.notes[name]})" if name in self.notes else ""
                lines.append(f"{name} = {shown}: {meaning}{note}")
            else:
                lines.append(f"{name}: {self.why_not(name)}")
        return "\n".join(lines)


class Collected:
    """Constants while they are being put together."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.notes: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.absent: dict[str, str] = {}

    def give(self, name: str, value: Any, note: str = "") -> None:
        self.values[name] = value
        if note:
            self.notes[name] = note

    def take(self, found: Mapping[str, "first_gradient.Known"]) -> None:
        """Constants with their notes, or the reason why they do not apply."""
        for name, known in found.items():
            if known.value is None:
                self.absent[name] = known.note
            else:
                self.give(name, known.value, known.note)

    def need(self, argument: str, *names: str) -> None:
        for name in names:
            if name not in self.absent:
                self.missing[name] = argument

    def constants(self, mdp: TokenMDP) -> InstanceConstants:
        """What was collected, to be read only."""
        tables = (self.values, self.notes, self.missing, self.absent)
        return InstanceConstants(mdp, *(MappingProxyType(table) for table in tables))


def instance_constants(
    mdp: TokenMDP,
    estimator: EstimatorLike | None = None,
    group_size: int | float | None = None,
    learning_rate: float | None = None,
    inner_steps: int | None = None,
) -> InstanceConstants:
    """Every constant that is proved for this instance, such as L_J = rho d_max; the rest is absent, and why.

    Each is one number but c_G(theta), theta [S, V]; `describe()` gives their meanings. Ours.
    d_max, and with it L_J, bound a supremum over all policies from above; `notes` says where they are exact.
    Raises ValueError for bad input as `simulate` does.
    """
    world, found = geometry(mdp), Collected()
    chosen = None if estimator is None else resolve(estimator)
    G, eta, K = checked(chosen, group_size, learning_rate, inner_steps)
    given = {"estimator": chosen, "group_size": G, "learning_rate": eta, "inner_steps": K}
    for name, value in given.items():
        if value is None:
            found.need(f"{name}=...", name)
        else:
            found.give(name, value)
    of_world(world, found)
    of_estimator, of_group = ("kappa", "B_Phi", "lambda_eps", "Q", "V"), ("c_min", "c_max", "b_bar", "c_G")
    of_steps = ("row", "Lambda", "D", "tau", "e")
    if chosen is None:
        found.need("estimator=...", *of_estimator, *of_group, *of_steps)
        return found.constants(mdp)
    part = first_gradient.Part(world, chosen)
    found.take(part.constants())
    if G is None:
        if part.unproportional:
            found.absent.update(dict.fromkeys(of_group, part.unproportional))
        found.need("group_size=...", *of_group)
    else:
        found.take(part.group_constants(G))
    if eta is None or K is None:
        wanted = [name for name, x in (("learning_rate", eta), ("inner_steps", K)) if x is None]
        found.need(" and ".join(f"{name}=..." for name in wanted), *of_steps)
    else:
        of_inner_steps(part, eta, K, found)
    return found.constants(mdp)


def checked(
    estimator: AnyEstimator | None,
    group_size: int | float | None,
    learning_rate: float | None,
    inner_steps: int | None,
) -> tuple[int | float | None, float | None, int | None]:
    """The numbers, or a ValueError with value, limit and way out."""
    eta, K = number_or_nan(learning_rate), number_or_nan(inner_steps)
    if learning_rate is not None and not (math.isfinite(eta) and eta > 0):
        raise ValueError(f"learning_rate = {learning_rate!r}: a step size must be > 0 and finite")
    if inner_steps is not None and not (K >= 1 and K % 1 == 0):
        raise ValueError(f"inner_steps = {inner_steps!r}: K is a whole number >= 1 of steps on one group")
    if group_size is not None and estimator is not None:
        group_size = check_group_size(group_size, estimator)
    return (
        group_size,
        None if learning_rate is None else float(learning_rate),
        None if inner_steps is None else int(inner_steps),
    )


def of_world(world: Geometry, found: Collected) -> None:
    d_max, note = world.d_max
    found.give("rho", world.rho)
    found.give("nu", world.nu)
    found.give("d_max", d_max, note)
    found.give("L_J", world.rho * d_max, "an upper bound over all policies")
    exact = world.squared_visits[1]
    found.give("B", world.B, "" if exact else "from nu times the length, an upper bound")
    found.give("l_min", world.lengths[0])
    found.give("horizon", world.mdp.horizon)


def of_inner_steps(part: first_gradient.Part, eta: float, K: int, found: Collected) -> None:
    """The row that applies, and what follows from it; with K = 1 nothing drifts, whatever the estimator."""
    reason = part.obstacle
    rows = [] if reason else part.field.rows(eta, K)
    row = next((row for row in rows if row.holds), None)
    if row is not None:
        found.give("row", row.name, row.condition)
        found.give("Lambda", row.Lambda)
        found.give("D", row.D)
        tau = drift.tau(row.Lambda, eta, K)
        found.give("tau", tau)
        drifted = row.Lambda * eta * (K - 1) * row.D / 2
        found.give("e", min(tau * math.sqrt(found.values["Q"]), drifted) if drifted > 0 else 0.0)
        return
    reason = reason or part.field.obstacle
    reason = reason or "; ".join(f"{row.name} asks for {row.condition}, which fails" for row in rows)
    for name in ("row", "Lambda", "D"):
        found.absent[name] = reason
    for name in ("tau", "e"):
        if K == 1:
            found.give(name, 0.0, "one step: nothing drifts")
        else:
            found.absent[name] = reason
