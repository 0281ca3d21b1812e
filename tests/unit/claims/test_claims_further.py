"""Numbers of the later claims by hand."""

import pytest

from ticgrpo_theory.claims.claim import Verdict
from ticgrpo_theory.claims.paper import further, races
from ticgrpo_theory.claims.witnesses import XOR, Case, infinite
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments


def test_the_upper_clip_has_the_larger_variance_of_one_token_by_hand():
    # z = +-1. Token 0 has w = 7/5, off in both; token 1 w = 3/5: off below 4/5, else g = -3/5 (-.7, .7).
    case = further.TOKEN
    found = [
        gradient_moments(case.mdp, case.theta, case.theta_old, infinite(each), 1).variance
        for each in (further.PPO_CLIP, further.TIC_EQ11)
    ]
    square = 2 * (3 / 5 * 7 / 10) ** 2
    assert found == pytest.approx([0.0, square / 2 - square / 4], abs=1e-15)


def test_a_share_of_a_gain_that_is_a_loss_is_refused():
    """Close to the optimum of XOR noise drives both down: a share of a loss is positive and means nothing."""
    near_the_top = Case.of("V=2 T=2 rows=one r=0,1,1,0 old=21/40")
    with pytest.raises(ValueError, match=r"GRPO gains -0.00175591 on .* a share of it says nothing"):
        races.held_against_grpo(near_the_top)
    assert races.held_against_grpo(XOR.at_old()) < 0


def test_what_reads_runs_is_not_decided_here():
    assert further.accuracy().verdict is Verdict.UNCHECKABLE
