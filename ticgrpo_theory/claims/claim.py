"""What a claim of the paper is here: words, a place, and a function that decides it from numbers.

A verdict is never typed. `decide()` computes, compares with a named tolerance and returns the Finding that the
numbers allow; the table of verdicts is written from these findings and from nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

EXACT = 1e-12
"""Norm up to which two float64 computations without sampling are the same number."""


class Verdict(Enum):
    """The four answers."""

    HOLDS = "holds exactly"
    CORRECTED = "holds after correction"
    FAILS = "fails: counter-example"
    UNCHECKABLE = "not checkable here"


@dataclass(frozen=True)
class Finding:
    """A verdict, the reason in a few words (which correction, which counter-example, why not), and the number."""

    verdict: Verdict
    reason: str
    number: str


@dataclass(frozen=True)
class Claim:
    """One row of paper_checks.md."""

    id: str
    """Letters, digits and dots only; unique."""
    claim: str
    """What the paper says, in our words."""
    place: str
    """Where it says so."""
    decide: Callable[[], Finding]
    """Computes the finding."""
    function: str
    """The function that computes the quantity, as a dotted path."""
    test: str
    """The test that guards it, as file::name under tests/."""
    experiment: str
    """The script that shows it, or '' where the check itself is all there is."""


def identity(residual: float, *, scale: float, number: str, reason: str = "") -> Finding:
    """Holds exactly where residual <= EXACT max(1, scale); else fails, with the residual as the number."""
    if residual <= EXACT * max(1.0, scale):
        return Finding(Verdict.HOLDS, reason, number)
    return Finding(Verdict.FAILS, reason, f"{number}; residual {residual:.6g}")


def repaired(printed: float, corrected: float, *, correction: str, name: str) -> Finding:
    """Holds exactly where `printed` vanishes, after correction where only `corrected` does, else fails."""
    if printed <= EXACT:
        return Finding(Verdict.HOLDS, "", f"{name}: below 1e-12")
    if corrected <= EXACT:
        return Finding(
            Verdict.CORRECTED, correction, f"{name}: {printed:.6g} as printed, below 1e-12 as corrected"
        )
    return Finding(Verdict.FAILS, correction, f"{name}: {printed:.6g} as printed, {corrected:.6g} as corrected")


def refuted(size: float, *, above: float, counter_example: str, number: str) -> Finding:
    """Fails where the witness exceeds `above`, which the claim says it does not; else holds on this witness."""
    verdict = Verdict.FAILS if size > above else Verdict.HOLDS
    return Finding(verdict, counter_example, number)


def unverifiable(why: str) -> Callable[[], Finding]:
    """A claim about people, dates or machines: no computation on a token MDP bears on it."""
    return lambda: Finding(Verdict.UNCHECKABLE, why, "")
