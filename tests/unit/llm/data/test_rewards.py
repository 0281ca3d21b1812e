r"""Strict rewards: which answer counts, which tricks do not, and what hostile answers cost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.rewards import MAX_DIGITS, answered, as_integer, correct, integer, overlong, rewards

INTEGERS = st.integers(min_value=-(10**MAX_DIGITS) + 1, max_value=10**MAX_DIGITS - 1)


@pytest.mark.parametrize(
    "response",
    [
        r"so the sum is \boxed{7}.",
        r"\boxed{8} is wrong, hence \boxed{7}",
        r"Answer: 8, no: \boxed{7}",
        "\\boxed{8}\nAnswer: 7",
        "Answer: 8\nAnswer: 7\nThat is all.",
        r"Answer: \boxed{7}",
        "Answer: $7$.",
        "**Answer:** 7",
        "**Answer: 7**",
        "Answer:\n\n  7\n",
        r"Answer: \(7\)",
        "answer: +7",
        "ANSWER: 007",
        r"\boxed{ $007$ }",
        r"\boxed{7.}",
    ],
)
def test_the_last_answer_counts_however_it_is_wrapped(response: str) -> None:
    assert answered(response) == 7


@pytest.mark.parametrize(
    "response",
    [
        "",
        "7",
        "The answer is 7",
        r"\boxed{3+4}",
        r"\boxed{7=7}",
        r"\boxed{7\%}",
        r"\boxed{7.0}",
        r"\boxed{.7}",
        r"\boxed{6,7}",
        r"\boxed{x=7}",
        r"\boxed{\text{7}}",
        r"\boxed{{7}}",
        r"\boxed{7",
        r"\boxed{7}} and then \boxed{7",
        r"\boxed{}",
        r"\boxed{7}Answer:",
        r"\boxed{7} Answer: none",
        "Answer: 7 or 8",
        "Answer: 7\\",
        "Answer: \N{FULLWIDTH DIGIT SEVEN}",
        "Answer: \N{ARABIC-INDIC DIGIT SEVEN}",
        "Answer: 7_0",
        "Answer: 7e0",
        "Answer: 0x7",
        "Answer: --7",
        "Answer: 14/2",
        "Answer: 4+3",
        "Answer: {7}",
        "Answer: 7!",
        "Answer: 2^{2^{2^{2}}}",
        "Answer: {0.__class__}",
        "Answer: %d",
    ],
)
def test_anything_that_is_not_an_integer_is_wrong(response: str) -> None:
    assert not correct(response, 7)


@given(INTEGERS, st.sampled_from([r"\boxed{%s}", "Answer: %s", "Answer: $%s$\nend"]), st.integers(0, 3))
def test_an_integer_is_read_back_from_every_form(number: int, form: str, zeros: int) -> None:
    sign, digits = ("-" if number < 0 else ""), str(abs(number)).zfill(min(MAX_DIGITS, zeros + 1))
    response = form % (sign + digits)
    assert answered(response) == number
    assert not correct(response, number + 1)


@given(st.text(max_size=60), INTEGERS)
def test_what_stands_before_the_last_answer_never_matters(before: str, number: int) -> None:
    assert answered(before + "\nAnswer: " + str(number)) == number


@given(st.text(alphabet="\\boxed{}Answer: 0123456789+-=$%.\n", max_size=80))
def test_no_text_raises_and_every_number_found_stands_in_it(text: str) -> None:
    found = answered(text)
    assert found is None or str(abs(found)) in text


def test_integers_end_at_the_limit_of_digits() -> None:
    assert integer("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1
    assert integer("9" * (MAX_DIGITS + 1)) is None
    assert integer("0" * MAX_DIGITS + "7") is None


MILLION = 1_000_000
HOSTILE = {
    "digits in a box": "\\boxed{" + "9" * 4 * MILLION + "}",
    "digits behind Answer": "Answer: " + "9" * 4 * MILLION,
    "zeros": "Answer: " + "0" * 4 * MILLION + "7",
    "power tower": "Answer: " + "9^{" * MILLION + "9" + "}" * MILLION,
    "nested boxes": "\\boxed{" * MILLION + "7",
    "nested braces": "\\boxed{" + "{" * MILLION + "7" + "}" * MILLION + "}",
    "open braces": "\\boxed{" + "{" * 4 * MILLION,
    "many answers": "Answer: 8\n" * MILLION,
    "many colons": "Answer: 8" + ":" * 4 * MILLION,
    "spaces": "Answer:" + " " * 4 * MILLION + "7",
    "almost answers": "Answer" * MILLION,
    "almost boxes": "\\boxed" * MILLION,
    "factorial": "\\boxed{7" + "!" * MILLION + "}",
    "signs": "Answer: " + "-" * MILLION + "7",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_score_nothing_in_milliseconds(name: str) -> None:
    """One to ten megabytes: 0.5 to 6 ms on one core, allowed 500."""
    began = time.perf_counter()
    right = correct(HOSTILE[name], 7)
    seconds = time.perf_counter() - began
    assert not right
    assert seconds < 0.5


def test_ground_truths_are_integers_in_any_of_their_spellings() -> None:
    assert [as_integer(x) for x in ("034", "34", 34, 34.0, " $34$ ", "-5")] == [34, 34, 34, 34, 34, -5]
    assert [as_integer(x) for x in ("1/2", "", None, 3.5, float("inf"), "9" * 101, [3])] == [None] * 7


def test_overlong_is_eq_13_of_dapo_by_hand() -> None:
    """L_max = 20, L_cache = 8: free to 12, half-way down at 16, the whole punishment from 20 on."""
    assert [overlong(n, 20, 8) for n in (0, 12, 13, 16, 20, 21)] == [0.0, 0.0, -0.125, -0.5, -1.0, -1.0]
    assert overlong(16, 20, 8, factor=2.0) == -1.0
    assert overlong(20, 20, 0) == 0.0


@given(st.integers(0, 300), st.integers(1, 200))
def test_overlong_never_rewards_a_longer_response(length: int, buffer: int) -> None:
    here, longer = overlong(length, 200, buffer), overlong(length + 1, 200, buffer)
    assert -1.0 <= longer <= here <= 0.0


@pytest.mark.parametrize("buffer", [-1, 21])
def test_a_buffer_beyond_the_limit_is_refused(buffer: int) -> None:
    with pytest.raises(ValueError, match=rf"buffer = {buffer}: needs 0 <= buffer <= limit"):
        overlong(3, 20, buffer)


def test_rewards_are_the_value_plus_the_punishment() -> None:
    assert rewards([True, False], [12, 16], "plus_minus_one", 20, 8) == [1.0, -1.5]
    assert rewards([True, False], [20, 20], "zero_one", 20) == [1.0, 0.0]
    with pytest.raises(ValueError, match="values = 'bonus': there are zero_one, plus_minus_one"):
        rewards([True], [1], "bonus", 20)
