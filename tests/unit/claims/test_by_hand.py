"""The page of a claim: fractions by hand, intervals that enclose, and the same numbers as both engines."""

import math
from fractions import Fraction

import pytest
from flint import arb, fmpq
from hypothesis import given
from hypothesis import strategies as st

from tests.thinned import more
from ticgrpo_theory.claims.by_hand.formulas import value
from ticgrpo_theory.claims.by_hand.hand import Hand, short
from ticgrpo_theory.claims.by_hand.interval import Interval, exponential, logarithm, root
from ticgrpo_theory.claims.certified.enclosures import precision
from ticgrpo_theory.claims.page import page
from ticgrpo_theory.claims.table import one_claim, proved
from ticgrpo_theory.claims.world_line import parse

PAGE = "V=2 T=2 EOS=1 r=1,0,0 old=1/2 theta=3/4,1/2"
GRPO, EQ11 = "token+std+two:1/5:7/25+mean", "trajectory+std+upper:7/25+mean"


@pytest.mark.parametrize(
    ("line", "formula", "printed"),
    [
        # r = 1 for 00 alone, of probability 1/4: times its score (1/4, 1/2) at theta, (1/2, 1/2) at old.
        (PAGE, "drawn('old', 'theta', 'r')", "(1/16, 1/8)"),
        (PAGE, "grad('old')", "(1/8, 1/8)"),
        # Of the group 00, 1: token 0 of 00 is off (3/2 > 1.28), its second token is on; 1 is off (1/2 < .8).
        (f"{PAGE} estimator={GRPO} group=00,1", "group_miss()", "(3/4, -1/8)"),
        (
            f"{PAGE} estimator={GRPO} group=00,1",
            "group_miss('main', 'gradient_error', 'sampling_error_2')",
            "(0, 0)",
        ),
        (f"{PAGE} estimator={GRPO} G=2", "term('main', 'printed')", "(5/32, 1/2)"),
        (f"{PAGE} estimator={GRPO} G=2", "T1() / sigmaG() * grad('old')", "(1/2, 1/2)"),
        (f"{PAGE} estimator={EQ11} group=00,1", "group_miss('main', 'sampling_error_2')", "(0, 0)"),
        (f"V=2 T=3 EOS=1 rows=one r=0,0,1,0 old=3/5 estimator={GRPO} G=2", "E()", "(51/3125)"),
        ("V=2 T=3 EOS=1 rows=one r=0,0,1,0 old=3/5", "grad('old')", "(-6/125)"),
    ],
)
def test_numbers_of_a_page_are_the_fractions_that_a_pencil_gives(line, formula, printed):
    assert short(value(Hand(parse(line)), formula)) == printed


def test_what_is_no_formula_is_refused():
    hand = Hand(parse(PAGE))
    for formula in ("__import__('os')", "J('theta') ** 2", "J.__class__", "[1]"):
        with pytest.raises(ValueError, match=r"is no formula|is not stated"):
            value(hand, formula)
    with pytest.raises(ValueError, match="states no group size: add G=2"):
        value(hand, f"E('{GRPO}')")


@given(st.fractions(min_value=Fraction(1, 40), max_value=50, max_denominator=40))
def test_intervals_enclose_roots_exponentials_and_logarithms(x):
    for ends, f in ((root(x), math.sqrt), (exponential(x), math.exp), (logarithm(x), math.log)):
        assert ends[0] <= ends[1]
        assert ends[1] - ends[0] < Fraction(1, 10**12) * max(1, abs(ends[1]))
        assert float(ends[0]) == pytest.approx(f(x), rel=1e-14, abs=1e-14)
    below, above = root(Fraction(2) * x * x)
    assert below**2 <= 2 * x * x <= above**2 and below < above


def test_an_open_comparison_and_a_division_by_what_may_be_zero_are_refused():
    around = Interval(Fraction(-1), Fraction(1))
    with pytest.raises(ValueError, match="is open"):
        around.at_most(0)
    with pytest.raises(ValueError, match="which may be zero"):
        Interval.of(1) / around


def agree(name: str) -> None:
    """Every certified number of a row, by hand: the ball of the other engine meets the interval."""
    for witness in proved(one_claim(name).decide()):
        found = value(Hand(parse(witness.line)), witness.formula)
        assert isinstance(found, Interval)
        with precision():
            lo, hi = (arb(fmpq(x.numerator, x.denominator)) for x in (found.lo, found.hi))
            assert bool((witness.ball - lo) > -arb("1e-25")) and bool((hi - witness.ball) > -arb("1e-25"))
        assert float(found.hi - found.lo) < 1e-25 and found.lo > 0


@pytest.mark.parametrize("name", ["E7.proof", "E7.vanish", "E3.sampled", "E9.variance", "TIC.reuse", "T5.1"])
def test_three_computations_agree(name):
    agree(name)


@more
@pytest.mark.parametrize("name", ["E7", "E11", "E8", "P.gspo", "A5.1", "A5.2", "C.L0", "P.group", "L4"])
def test_three_computations_agree_on_more_rows(name):
    agree(name)


def test_a_page_has_the_words_the_world_the_steps_and_the_number():
    claim = one_claim("E7.proof")
    text = "\n".join(page(claim, claim.decide()))
    assert "E7.proof. Responses of theta_old" in text and "grad log P_theta" in text
    assert "00: r = 1, |s| = 2, P_theta_old = 1/4, P_theta = 3/8, w = 3/2, 1, w' = 3/2" in text
    assert "norm(drawn('old', 'theta', 'r') - grad('old')) = ~0.1054414654" in text
    with pytest.raises(ValueError, match=r"no claim 'E7.prof'; near ones: E7.proof"):
        one_claim("E7.prof")
