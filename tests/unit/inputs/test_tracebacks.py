"""tracebacks.py: what is said of an error fits on a line that somebody reads."""

from ticgrpo_theory.inputs.tracebacks import brief, said


def test_a_short_text_stays_and_a_long_one_keeps_both_ends():
    assert brief("a\n  b") == "a b"
    long = brief("field = " + "x" * 5000 + " is not a number", 100)
    assert long.startswith("field = xxx") and long.endswith("x is not a number") and len(long) < 140
    assert " ... (4,924 characters) ... " in long


def test_what_is_left_out_is_counted():
    text = "0123456789" * 20
    begin, _, rest = brief(text, 50).partition(" ... (")
    count, _, end = rest.partition(" characters) ... ")
    assert text.startswith(begin) and text.endswith(end) and len(begin) + int(count) + len(end) == len(text)


def test_an_error_is_named_by_its_type():
    assert said(ValueError("no\nsuch thing")) == "ValueError: no such thing"
