r"""The reward of a response: the last integer that it gives as its answer, compared strictly.

    answer   = what stands in the last `\boxed{...}` or behind the last `Answer:`, whichever begins later
    correct  = the answer is an integer and equals the ground truth as an integer
    reward   = 0 or 1, or -1 or 1, less what `overlong` punishes

Strict on purpose: `\boxed{3+4}`, `\boxed{7=7}` and `\boxed{7\%}` are not the answer 7, since a policy learns
whatever a lenient checker lets pass. No text of a model is ever evaluated, formatted or matched by a pattern
that can backtrack: an answer costs a few searches for a fixed text, however long or deeply nested it is.
"""

from collections.abc import Sequence

MAX_DIGITS = 100
"""Longer integers are wrong answers: int() refuses from 4,300 digits on, and is quadratic before."""

WINDOW = 4 * MAX_DIGITS
"""Characters that are read behind a box or an `Answer:`; no integer that counts is longer."""

BOXED = "\\boxed{"
ANSWERS = ("Answer:", "answer:", "ANSWER:")

VALUES = {"zero_one": (0.0, 1.0), "plus_minus_one": (-1.0, 1.0)}
"""Reward of a wrong and of a right answer, by the name in a configuration."""


def given_answer(response: str) -> str | None:
    """What the response gives as its answer, in `Answer: \\boxed{7}` the box; None where there is none.

    A box ends at its matching brace. Behind `Answer:` stands the rest of the line, or the next line that is
    not empty. A later box that is never closed is no reason to look for an earlier one.
    """
    box = response.rfind(BOXED)
    line = max(response.rfind(answer) for answer in ANSWERS)
    if box > line:
        return braced(response[box + len(BOXED) : box + len(BOXED) + WINDOW])
    if line < 0:
        return None
    start = line + len(ANSWERS[0])
    return response[start : start + WINDOW].lstrip().partition("\n")[0]


def braced(text: str) -> str | None:
    """`text` up to the brace that closes the one before it; None where that is not in it."""
    depth = 1
    for end, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:end]
    return None


def integer(text: str) -> int | None:
    """The integer that `text` is; None if it is none, or is longer than MAX_DIGITS.

    A sign and leading zeros may stand in it; spaces, $, bold marks and \\( \\) around it, and a full stop
    behind. Digits are ASCII: int() would also take other scripts, underscores and surrounding line breaks.
    """
    digits = text[: WINDOW + 1].strip().removesuffix(".").strip(" \t$*")
    if digits.startswith("\\(") and digits.endswith("\\)"):
        digits = digits[2:-2].strip()
    sign = digits[:1] if digits[:1] in ("+", "-") else ""
    digits = digits[len(sign) :]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
        return None
    return int(sign + digits)


def answered(response: str) -> int | None:
    """The integer that the response gives as its answer; None where it gives none."""
    answer = given_answer(response)
    return None if answer is None else integer(answer)


def as_integer(truth: object) -> int | None:
    """A ground truth as an integer, however it is written; None where it is none."""
    whole = isinstance(truth, float) and truth.is_integer()
    return integer(str(int(truth) if whole else truth))  # type: ignore[call-overload]


def correct(response: str, truth: int) -> bool:
    """Whether the response gives the integer `truth` as its answer."""
    return answered(response) == truth


def overlong(length: int, limit: int, buffer: int, factor: float = 1.0) -> float:
    """factor * max(-1, min(0, (limit - buffer - |s|) / buffer)); 0 at every length if buffer = 0.

    Source: arXiv:2503.14476 v2 (DAPO), Eq. 13, with L_max = limit and L_cache = buffer.
    """
    if not 0 <= buffer <= limit or length < 0:
        raise ValueError(
            f"length = {length}, limit = {limit}, buffer = {buffer}: needs 0 <= buffer <= limit, length >= 0"
        )
    if buffer == 0:
        return 0.0
    return factor * max(-1.0, min(0.0, (limit - buffer - length) / buffer))


def rewards(
    right: Sequence[bool],
    lengths: Sequence[int],
    values: str,
    limit: int,
    buffer: int = 0,
    factor: float = 1.0,
) -> list[float]:
    """The value of a wrong or a right answer, plus the overlong term, for each response."""
    if values not in VALUES:
        raise ValueError(f"values = {values!r}: there are {', '.join(VALUES)}")
    wrong_value, right_value = VALUES[values]
    return [
        (right_value if ok else wrong_value) + overlong(length, limit, buffer, factor)
        for ok, length in zip(right, lengths, strict=True)
    ]
