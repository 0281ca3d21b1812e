"""drift.py: the rows of its table by hand, and which of them applies."""

import math

import pytest

from tests.properties.tolerances import EXACT
from ticgrpo_theory.bounds.drift import Field, clip_range, tau
from ticgrpo_theory.estimators.catalogue import ESTIMATORS, cispo, gspo, no_is, stale
from ticgrpo_theory.estimators.clipping import dual, two_sided, unclipped, upper_only


def close(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=EXACT["atol"], rel=EXACT["rtol"])


def field(name: str, **changes) -> Field:
    """Two tokens on two rows of their own: kappa = 1/2, B = 2, B_Phi = 1, nu = 1."""
    values = {"lengths": [2], "kappa": 0.5, "B": 2.0, "B_Phi": 1.0, "nu": 1} | changes
    return Field(ESTIMATORS[name], **values)


def test_the_range_of_a_clip_is_that_of_both_signs():
    found = clip_range(two_sided(0.5, 1.0), [3])
    close(found.nearest, math.log(2.0))
    close(found.positive, math.log(2.0))
    assert found.largest == math.inf
    capped = clip_range(dual(0.5, 1.0, cap=3.0, log_limit=20.0), [3])
    close(capped.largest, math.log(3.0))
    assert clip_range(unclipped(), [3]).nearest == clip_range(unclipped(), [3]).positive == math.inf
    close(clip_range(upper_only(0.28), [3]).largest, math.log(1.28))


def test_rows_of_a_token_ratio_by_hand():
    # grpo: 0.2 on both sides, W = 1.2, lambda = log 1.2 = 0.182 < -log 0.8 = 0.223.
    inactive, possible = field("grpo").rows(learning_rate=0.01, inner_steps=2)
    assert inactive.holds and possible.holds  # 0.02 * 1.2 * sqrt 2 = 0.034; 0.02 e sqrt 2 = 0.077
    close(inactive.Lambda, 0.5 * 1.2 * 2)
    close(inactive.D, 1.2)
    close(possible.Lambda, 0.5 * max(2 * math.e + 0.5, 2 / math.log(1.2)))
    close(possible.D, math.e)
    far = field("grpo").rows(learning_rate=1.0, inner_steps=2)
    assert [row.holds for row in far] == [False, False]


def test_rows_of_a_trajectory_ratio_whose_clip_bounds_every_weight_need_no_condition():
    inactive, possible = field("tic_grpo").rows(learning_rate=10.0, inner_steps=4)
    assert (inactive.holds, possible.holds, possible.condition[:11]) == (False, True, "none needed")
    close(possible.Lambda, 0.5 * max(1.28 * 4 + 0.5, 4 / math.log(1.28)))


def test_fields_without_a_ratio_and_fields_without_a_row():
    (held,) = Field(stale(), [2], 0.5, 2.0, 1.0, 1).rows(1.0, 4)
    (moved,) = Field(no_is(), [2], 0.5, 2.0, 1.0, 3).rows(1.0, 4)
    assert (held.Lambda, moved.Lambda, held.D) == (0.0, 0.75, 1.0)
    reasons = {gspo(): "the token ratio and the trajectory ratio only", cispo(): "saturating"}
    for estimator, reason in reasons.items():
        none = Field(estimator, [2], 0.5, 2.0, 1.0, 1)
        assert reason in none.obstacle and none.rows(0.1, 2) == []


def test_discrete_gronwall():
    close(tau(2.0, 0.125, 3), 2.0 * 0.125 * 2 / 2 * math.exp(0.75))
    assert tau(2.0, 0.125, 1) == tau(0.0, 1.0, 9) == 0.0
    assert tau(1e6, 1.0, 2) == math.inf
