"""simulated_floors.py: the tail mean and its errors by hand, and simulated floors within their intervals."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT
from tests.thinned import more
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.exact.fixed_points import policy
from ticgrpo_theory.floors.exact_floors import FixedPoint, floor_at_fixed_point
from ticgrpo_theory.floors.simulated_floors import (
    Effort,
    Run,
    coordinate,
    floor_row,
    measured,
    seed_of,
    tail_floor,
    tail_mean,
)
from ticgrpo_theory.worlds import WORLDS

pytestmark = more

XOR = WORLDS["xor"].build()
STALE = dataclasses.replace(ESTIMATORS["stale"], advantage=standardised(0.0))
RUN = Run(group_size=16, step=0.1, burn_in=2, tail=4, replicates=8, seed=0)


def hand(control: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tails of four steps whose means are 1 .. 8, first halves one below and second halves one above."""
    means = torch.arange(1.0, 9.0, dtype=torch.float64)
    squares = means[:, None] + torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    return squares, torch.tensor(control, dtype=torch.float64)


def test_a_tail_without_control_variate_by_hand():
    """Mean 9/2, variance 6 with 1/7, so a standard error of sqrt(6/8) times sqrt(7/6) for the slope."""
    found = measured(*hand([0.0] * 8), RUN)
    assert found.floor == 4.5 and (found.burn_in, found.tail) == (2, 4)
    assert found.raw_standard_error == pytest.approx(math.sqrt(6 / 8), abs=EXACT["atol"])
    assert found.standard_error == pytest.approx(math.sqrt(6 / 8 * 7 / 6), abs=EXACT["atol"])
    assert (found.first_half, found.second_half, found.halves_error) == (3.5, 5.5, 0.0)


def test_a_control_variate_that_knows_the_noise_leaves_none():
    """means = 4 + 2 Z exactly: the floor is what they are at Z = 0, although the mean of Z is 1/4."""
    found = measured(*hand([(mean - 4) / 2 for mean in range(1, 9)]), RUN)
    assert found.floor == pytest.approx(4, abs=EXACT["atol"]) and found.standard_error < EXACT["atol"]
    assert found.raw_standard_error == pytest.approx(math.sqrt(6 / 8), abs=EXACT["atol"])


def test_the_coordinate_is_the_distance_of_the_logits():
    theta = torch.tensor([[[0.5, -0.5]], [[0.0, 0.25]]], dtype=torch.float64)
    assert coordinate(theta).tolist() == [1 / math.sqrt(2), -0.25 / math.sqrt(2)]


def simulated(G: int, **more):
    here = floor_at_fixed_point(XOR, STALE, G)
    run = Effort(4.0, 8.0, 128, 0).run(here, G, 0.1, **more)
    return here, tail_floor(XOR, here.point, STALE, run)


def test_a_simulated_floor_is_the_exact_first_order_within_its_interval():
    """The next order in eta K is 3 % at 0.1."""
    here, found = simulated(16)
    exact = here.root + 0.1 * here.noise
    assert abs(found.floor - exact) < 5 * found.standard_error + 0.03 * exact
    # Precise enough to see an error of 10 %, and the control variate is why.
    assert 5 * found.standard_error < exact / 10 < 5 * found.raw_standard_error
    # Stationary: no drift between the halves. Partner: the floor of groups of four is elsewhere.
    assert abs(found.second_half - found.first_half) < 5 * found.halves_error
    assert abs(found.floor - 0.1 * floor_at_fixed_point(XOR, STALE, 4).noise) > 20 * found.standard_error


def test_the_control_variate_moves_no_mean():
    here, found = simulated(4, inner_steps=4)
    run = Effort(4.0, 8.0, 128, 0).run(here, 4, 0.1, inner_steps=4)
    plain = tail_mean(XOR, policy(XOR, here.point), STALE, run)
    assert plain.first_half == found.first_half and plain.second_half == found.second_half
    assert plain.standard_error == pytest.approx(found.raw_standard_error, rel=0.01)
    assert abs(plain.floor - found.floor) < 5 * plain.standard_error
    assert found.standard_error < plain.standard_error / 3


def test_a_run_that_is_still_on_its_way_has_unequal_halves():
    """The partner of stationarity: begun at p = 0.7 with next to no burn-in."""
    plain = tail_mean(XOR, policy(XOR, 0.7), STALE, dataclasses.replace(RUN, tail=60, replicates=32))
    assert plain.first_half - plain.second_half > 5 * plain.halves_error


def test_a_row_holds_what_is_exact_beside_what_is_simulated():
    effort = Effort(1.0, 2.0, 8, 0)
    row = floor_row(XOR, STALE, effort, group_size=4, step=0.2, inner_steps=4, batches="disjoint", groups=4)
    here = floor_at_fixed_point(XOR, STALE, 4, 4)
    assert row["first_order"] == here.root + 0.2 * here.noise and row["root"] == here.root
    assert row["relaxation"] == pytest.approx(1 / (0.2 * here.rate), abs=EXACT["atol"])
    assert (row["burn_in"], row["tail"]) == (math.ceil(row["relaxation"]), math.ceil(2 * row["relaxation"]))


def test_every_point_of_a_grid_has_random_numbers_of_its_own():
    seeds = {seed_of(seed, G, h) for seed in (0, 1) for G in (4, 16) for h in (0.1, 0.2)}
    assert len(seeds) == 8 and seed_of(0, 4, 0.1) == seed_of(0, 4, 0.1)


def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out():
    with pytest.raises(ValueError, match=r"burn_in = 0, tail = 4 outer steps: .* raise the relaxation times"):
        dataclasses.replace(RUN, burn_in=0)
    with pytest.raises(ValueError, match=r"tail = 3 outer steps: at least 1 and 4 are needed"):
        dataclasses.replace(RUN, tail=3)
    with pytest.raises(ValueError, match=r"burn_in = 4.0, tail = 0.0: both are numbers of relaxation times"):
        Effort(4.0, 0.0, 64, 0)
    with pytest.raises(ValueError, match=r"replicates = 7: a standard error .* needs at least 8"):
        Effort(4.0, 8.0, 7, 0)


def test_a_step_that_throws_replicates_out_of_the_numbers_is_refused():
    far = dataclasses.replace(RUN, step=1e160, tail=8)
    with pytest.raises(ValueError, match=r"of 8 replicates became non-finite at eta K = 1e\+160: .* smaller"):
        tail_mean(XOR, policy(XOR, 0.6), STALE, far)


def test_relaxation_is_counted_in_outer_steps():
    here = FixedPoint(point=0.5, rate=0.25, root=0.0, noise=1.0)
    run = Effort(2.0, 8.0, 8, 0).run(here, 4, 0.5)
    assert (run.burn_in, run.tail) == (16, 64) and np.isclose(1 / (here.rate * run.step), 8)
