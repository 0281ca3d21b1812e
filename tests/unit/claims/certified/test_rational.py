"""certified/rational.py: policies of small integers, and the same policy as balls."""

import pytest
from flint import arb, fmpq

from ticgrpo_theory.claims.certified.enclosures import precision
from ticgrpo_theory.claims.certified.rational import BallPolicy, IntegerPolicy, fraction, product, responses
from ticgrpo_theory.mdp import TokenMDP

OLD = IntegerPolicy(((3, 2), (5, 4), (2, 3)))


def test_a_policy_of_balls_at_the_start_is_the_integer_policy():
    with precision():
        ball = BallPolicy.at(OLD)
        for s in range(3):
            for a in range(2):
                assert (ball.prob(s, a) - arb(OLD.prob(s, a))).contains(0)


def test_fractions_by_hand():
    # 3 : 2 after the start, 5 : 4 after 0, and the response 0, 0: 3/5 * 5/9 = 1/3.
    mdp = TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=[0.1, 0.0, 1.0])
    policy = IntegerPolicy(((3, 2), (5, 4)))
    every = responses(mdp)
    assert [y.tokens for y in every] == [(0, 0), (0, 1), (1,)]
    assert [y.prob(policy) for y in every] == [fmpq(1, 3), fmpq(4, 15), fmpq(2, 5)]
    assert every[0].reward == fraction(0.1) == fmpq(1, 10) != fmpq((0.1).as_integer_ratio()[0], 2**55)
    assert product([]) == 1


def test_weights_that_are_no_positive_integers_are_refused():
    for weights in ((), ((1, 0),), ((2, -1),)):
        with pytest.raises(ValueError, match="give one row or more of positive integers"):
            IntegerPolicy(weights)
