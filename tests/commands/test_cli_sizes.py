"""Huge sizes on the command line: an answer, or one line with the limit and the way out."""

import pytest

from tests.commands.typed_commands import answer, refusal, run

XOR = ("--world", "xor", "--estimator", "grpo")


def test_a_thousand_million_responses_are_answered(capsys):
    large, infinite = (answer(capsys, "gradient", *XOR, "--group-size", G) for G in ("1000000000", "inf"))
    assert large["estimators"][0]["method"] == infinite["estimators"][0]["method"] == "dynamic_programming"
    at = [found["estimators"][0]["scale"] for found in (large, infinite)]
    assert at[0] != at[1] and at[0] == pytest.approx(at[1], rel=1e-7)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("gradient", "--world", "few-values", "--estimator", "grpo", "--group-size", "10000000"),
            "lists 50,000,015,000,001 groups; that is more than MAX_WORK = 60 s of work",
        ),
        (
            ("gradient", *XOR, "--group-size", "100000", "--method", "sampled"),
            "more than MAX_TOKENS = 131,072",
        ),
        (
            ("gradient", *XOR, "--group-size", "1000000000", "--method", "groups"),
            "use method='dynamic_programming'",
        ),
        (("moments", *XOR, "--group-size", "1000000000"), "LARGEST_PAIRED = 1,048,576"),
        (("bias", *XOR, "--inner-steps", "1000000000"), "more than MAX_STEPS = 16,384 of them take minutes"),
        (
            ("bias", *XOR, "--steps", "reused", "--group-size", "1000000000"),
            "lower N, G or K, or sample groups",
        ),
    ],
)
def test_what_would_take_too_long_is_refused(capsys, args, message):
    assert message in refusal(capsys, *args)


def test_a_right_side_beyond_float64_is_said_to_be_inf(capsys):
    steps = ("--learning-rate", "5", "--inner-steps", "4")
    assert run("bounds", "--world", "xor", "--estimator", "tic_grpo", *steps) == 0
    assert "theorem 2: right side inf, says nothing here" in capsys.readouterr().out
