"""A line is read back as it is printed, builds the world it states, and says what is wrong with it."""

import pytest

from ticgrpo_theory.claims.world_line import parse
from ticgrpo_theory.exact.objective import expected_return

LINES = [
    "V=2 T=2 EOS=1 r=1,0,0 old=1/2 theta=3/4,1/2 G=2",
    "V=2 T=2 rows=one r=0,1,1,0|1,1,0,0 old=3/4",
    "V=2 T=8 rows=one r=#0>=4 old=1/2 theta=7/10 estimator=token+z+none+mean G=inf K=2 eta=1/4",
    "V=3 T=1 r=1,0,-3/10 old=1/2:1/3:1/6 ref=1/3:1/3:1/3",
    "V=2 T=2 r=1,0,0,1 old=1/2,1/3,1/4 group=00,11",
]


@pytest.mark.parametrize("text", LINES)
def test_a_line_is_printed_as_it_is_read(text):
    assert str(parse(text)) == text
    assert parse(text).mdp().vocab_size == parse(text).V


def test_the_world_of_a_line_by_hand():
    # 00 has probability 3/4 1/2 under theta, and 1/4 under old; two prompts count half each.
    line = parse(LINES[0])
    assert [expected_return(line.mdp(), line.policy(x).logits()) for x in ("theta", "old")] == pytest.approx(
        [3 / 8, 1 / 4], abs=1e-15
    )
    both = parse(LINES[1])
    value = expected_return(both.mdp(), both.policy("old").logits())
    assert value == pytest.approx((2 * 3 / 16 + 3 / 4) / 2, abs=1e-15)
    assert parse("V=2 T=1 r=0.3,1e-1 old=0.25").rewards() == parse("V=2 T=1 r=3/10,1/10 old=1/4").rewards()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("V=2 r=1,0", "has no T: write V=2 T=2"),
        ("V=2 T=2 r=1,0", "2 rewards where there are 4 responses: one each for 00 01 10 11"),
        ("V=2 T=1 r=1,x", "'x' is no number; write 3/4"),
        ("V=2 T=1 r=1,1/0", "'1/0' is no number"),
        ("V=2 T=1 r=1,0 old=3/2", "'3/2' is no row of 2 probabilities above 0"),
        ("V=3 T=1 r=1,0,0 old=1/2", "write 1/3:1/3:1/3"),
        ("V=2 T=2 r=1,0,0,1 old=1/2,1/3", "has 2 rows; give 3"),
        ("V=2 V=3", "V is given twice, as '2' and '3'"),
        ("V=2 T=2 Q=1", "'Q=1' is no KEY=VALUE of a world line; the keys are V, T"),
        ("V=2 T=2 r", "'r' is no KEY=VALUE"),
        ("V=2 T=2 EOS=2 r=1", "EOS=2 is no token of V=2: the tokens are 0 to 1"),
        ("V=2 T=40 r=1", "T is above 12: lower V or T"),
        ("V=2 T=1 r=1,0 G=1/2", "G=1/2: an integer of at least 1"),
        ("V=2 T=1 r=1,0 old=1/2 group=0,7", r"'7' is no response; there are \['0', '1'\]"),
        ("V=2 T=2 r=#0>=1", "takes V=2, rows=one and no EOS"),
        ("V=2 T=1 rows=two r=1,0", "rows=two: write rows=one, or leave it out"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_policy_that_the_line_does_not_state_is_refused():
    with pytest.raises(ValueError, match="states no policy ref: add ref=1/2"):
        parse(LINES[0]).policy("ref")
