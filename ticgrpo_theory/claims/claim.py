"""What a claim of the paper is here: words, a place, and a function that decides it from numbers.

A verdict is never typed. `decide()` computes, compares with a named tolerance and returns the Finding that
the numbers allow; the table of verdicts is written from these findings and from nothing else. That
something is not equal, does not vanish or is greater is said only where ball arithmetic leaves zero outside
(`Witness`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from flint import arb

from ticgrpo_theory.claims.certified.enclosures import certify
from ticgrpo_theory.stats.rounding import ROUNDING

RATE = 0.05
"""Relative deviation allowed from a power law at a finite drift or group size."""

BELOW = f"below {ROUNDING:g}"
"""What is said of a number that is zero to rounding."""

AGREED = 9
"""Digits on which float64 and balls must agree before either is believed."""

RADIUS = 1e-40
"""Largest radius of a ball that was computed at working precision throughout."""

MARK = "[certified]"
"""Stands behind a number that ball arithmetic proves to be above zero."""

SHOWN_DIGITS = 10
"""Agreement is reported up to here: beyond, it is the machine that is graded."""


class Verdict(Enum):
    """The four answers."""

    HOLDS = "holds exactly"
    CORRECTED = "holds after correction"
    FAILS = "fails: counter-example"
    UNCHECKABLE = "not checkable here"


@dataclass(frozen=True, eq=False)
class Witness:
    """A number that is computed twice: by the float64 engine and, from the definitions, as a ball.

    It is oriented so that the claim under test would make it zero, or negative where the claim is an order.
    """

    quantity: str
    """What the number is, in words."""
    line: str
    """World, policies and update, as `world_line` states them."""
    ball: arb
    float64: float
    formula: str = ""
    """The number in the terms of `by_hand`; '' where only the two engines have computed it."""

    @property
    def positive(self) -> bool:
        """Whether the ball proves the number above zero.

        Raises ValueError where the engines disagree, and for a ball that is wide without containing zero.
        """
        if self.agreeing_digits < AGREED:
            raise ValueError(
                f"{self.quantity} on {self.line}: float64 gives {self.float64!r}, ball arithmetic "
                f"{self.ball}; they agree on {self.agreeing_digits} digits, fewer than {AGREED}: one of the "
                f"two engines is wrong here"
            )
        if not (self.ball.contains(0) or bool(self.ball.rad() < RADIUS)):
            raise ValueError(
                f"{self.quantity} on {self.line}: the radius of {self.ball} is above RADIUS = {RADIUS:g}; "
                f"enter enclosures.precision() around every part of the computation"
            )
        return bool(self.ball > 0)

    @property
    def zero(self) -> bool:
        """Whether neither engine sees more than rounding."""
        return bool(self.ball.contains(0)) and abs(self.float64) <= ROUNDING

    @property
    def agreeing_digits(self) -> int:
        return certify(self.ball, self.float64).agreeing_digits

    @property
    def shown(self) -> str:
        """The number to six digits, marked where it is proved to be above zero."""
        return BELOW if self.zero else f"{shown(self.float64)} {MARK}"

    def record(self) -> dict[str, object]:
        """The certificate as plain data: 30 digits, a radius, and how well float64 does."""
        enclosure = certify(self.ball, self.float64)
        return {
            "quantity": self.quantity,
            "line": self.line,
            "formula": self.formula,
            "value": enclosure.midpoint,
            "radius": "0" if self.ball.rad() == 0 else f"below {RADIUS:g}",
            "float64_agrees_on_digits": min(SHOWN_DIGITS, enclosure.agreeing_digits),
        }


@dataclass(frozen=True)
class Finding:
    """A verdict, the reason (which correction, which counter-example, why not), and the number."""

    verdict: Verdict
    reason: str
    number: str
    witnesses: tuple[Witness, ...] = ()
    """What proves it, where the verdict is that something is not zero."""
    stated: tuple[str, ...] = ()
    """World lines of numbers that no witness carries."""
    record: str = ""
    """The published record that contradicts the claim, where no computation does."""

    @property
    def lines(self) -> list[str]:
        """The world lines that the row states, each once."""
        return list(dict.fromkeys([*(w.line for w in self.witnesses), *self.stated]))


@dataclass(frozen=True)
class Claim:
    """One row of paper_checks.md."""

    id: str
    """Letters, digits and dots only; unique."""
    claim: str
    """What the quoted words say, in ours."""
    place: str
    """Where it says so."""
    decide: Callable[[], Finding]
    """Computes the finding."""
    function: str = ""
    """The function that computes the quantity, as a dotted path; '' for what cannot be checked here."""
    test: str = ""
    """The test that guards it, as file::name under tests/; '' for what cannot be checked here."""
    experiment: str = ""
    """The script that shows it, or '' where the check itself is all there is."""


def judge(
    printed: Witness | tuple[Witness, ...],
    number: str,
    *,
    counter_example: str = "",
    correction: str = "",
    corrected: bool = False,
    reason: str = "",
    stated: tuple[str, ...] = (),
) -> Finding:
    """The verdict on a claim that would make every number of `printed` zero, or negative.

    All zero: it holds. All proved to be above zero: it holds after `correction` where `corrected`, else it
    fails. Raises ValueError in between: nothing may be claimed there.
    """
    witnesses = printed if isinstance(printed, tuple) else (printed,)
    if all(witness.zero for witness in witnesses):
        return Finding(Verdict.HOLDS, reason, number, witnesses, stated)
    if not all(witness.positive for witness in witnesses):
        open_ones = [f"{w.quantity} = {w.ball}" for w in witnesses if not w.positive]
        raise ValueError(f"neither zero nor proved to be above it: {'; '.join(open_ones)}")
    if corrected:
        return Finding(Verdict.CORRECTED, correction, number, witnesses, stated)
    reason = counter_example or f"even with: {correction}"
    return Finding(Verdict.FAILS, reason, number, witnesses, stated)


def holds(
    satisfied: bool,
    number: str,
    reason: str = "",
    proved: tuple[Witness, ...] = (),
    stated: tuple[str, ...] = (),
) -> Finding:
    """The verdict on a claim that a comparison of numbers bears out. Raises ValueError where it does not.

    `proved` are the numbers that the claim says are above zero. That a claim fails is never concluded from
    float64 alone: it takes a witness, and `judge`.
    """
    if not satisfied or not all(witness.positive for witness in proved):
        raise ValueError(f"the check is not met ({number}): find a witness, or another claim")
    return Finding(Verdict.HOLDS, reason, number, proved, stated)


def contradicted(record: str, reason: str, number: str, proved: tuple[Witness, ...] = ()) -> Finding:
    """A claim about runs that their own published record contradicts; `proved` are numbers beside it."""
    if not record or not all(witness.positive for witness in proved):
        raise ValueError(f"record = {record!r}: name the record, and only numbers that are above zero")
    return Finding(Verdict.FAILS, reason, number, proved, record=record)


def uncheckable(why: str, number: str = "") -> Finding:
    """About people, dates, machines or runs: no computation on a token MDP bears on it."""
    return Finding(Verdict.UNCHECKABLE, why, number)


def vanishes(*sizes: float) -> bool:
    """Whether all sizes are zero up to rounding."""
    return all(abs(size) <= ROUNDING for size in sizes)


def near(value: float, expected: float, tolerance: float = RATE) -> bool:
    """|value - expected| <= tolerance |expected|."""
    return abs(value - expected) <= tolerance * abs(expected)


def shown(value: float) -> str:
    """Six digits, and no noise of the machine: what is zero to rounding says so."""
    return BELOW if abs(value) <= ROUNDING else f"{value:.6g}"
