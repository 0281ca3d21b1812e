"""grids.py: the grid, what coincides on it, and what cannot be run."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from tests.thinned import more
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.floors import grids
from ticgrpo_theory.floors.grids import SERIES, bare, cells, check_grid, path_rows, tree
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import WORLDS

XOR = WORLDS["xor"].build()
START = torch.tensor([[0.4, -0.4]], dtype=torch.float64)


def test_series_are_drawn_for_responses_that_make_whole_groups():
    found = cells(("grpo", "grpo-disjoint"), (4, 8, 16), (0.1,))
    assert found == [
        ("xor", "grpo", 4, 0.1),
        ("xor", "grpo", 8, 0.1),
        ("xor", "grpo", 16, 0.1),
        ("xor", "grpo-disjoint", 8, 0.1),
        ("xor", "grpo-disjoint", 16, 0.1),
        ("tree", "grpo", 4, 0.1),
        ("tree", "grpo", 8, 0.1),
        ("tree", "grpo", 16, 0.1),
    ]


def test_the_tree_has_the_responses_and_rewards_of_xor():
    for p in (0.3, 0.7):
        at = (grids.alike(mdp, p) for mdp in (XOR, tree()))
        returns = [expected_return(mdp, theta) for mdp, theta in zip((XOR, tree()), at, strict=True)]
        assert returns == pytest.approx([2 * p * (1 - p)] * 2, abs=EXACT["atol"])


def walked(name: str, K: int, h: float, clipped: bool = False) -> torch.Tensor:
    """theta after ten outer steps of four replicates."""
    estimator = bare(name)
    if clipped:
        estimator = dataclasses.replace(ESTIMATORS[name], advantage=standardised(0.0))
    run = {"group_size": 4, "learning_rate": h / K, "inner_steps": K, "outer_steps": 10, "replicates": 4}
    return simulate(XOR, START, estimator, **run).theta


@more
def test_one_step_is_all_three_estimators_and_the_stale_one_at_any_K():
    one = walked("stale", 1, 0.2)
    for name in ("grpo", "tic_grpo_eq11"):
        torch.testing.assert_close(walked(name, 1, 0.2), one, **EXACT)
        assert (walked(name, 4, 0.2) - one).abs().max() > EXACT["atol"]
    torch.testing.assert_close(walked("stale", 4, 0.2), one, **EXACT)


def test_the_clip_that_is_left_out_would_never_act_on_grpo_at_these_steps():
    torch.testing.assert_close(walked("grpo", 4, 0.2, clipped=True), walked("grpo", 4, 0.2), **SAME_BITS)
    # Partner: in steps ten times as long it does.
    assert (walked("grpo", 4, 2.0, clipped=True) - walked("grpo", 4, 2.0)).abs().max() > VISIBLE


def test_a_path_falls_on_the_tree_and_stays_up_on_xor():
    ends = {}
    for world in ("xor", "tree"):
        path = path_rows(world, 4, 0.4, 120.0, 8, 0)
        times = [row["time"] for row in path]
        assert times == sorted(times) and times[0] == 0 and 60 < times[-1] < 120
        ends[world] = np.array([row["floor"] for row in path[-3:]])
    assert ends["tree"][0] > 2 * ends["tree"][2] and ends["tree"][2] < ends["xor"][2] / 10
    assert abs(math.log(ends["xor"][0] / ends["xor"][2])) < 1


def test_what_cannot_be_run_is_refused_with_value_limit_and_way_out():
    with pytest.raises(ValueError, match=r"unknown series 'ppo': choose from one-step, grpo, tic-eq11"):
        check_grid(("ppo",), (4,), (0.1,))
    with pytest.raises(ValueError, match=r"group size 1: A needs at least 2 responses; give whole"):
        check_grid(("grpo",), (1,), (0.1,))
    with pytest.raises(ValueError, match=r"group_sizes = \(4,\): none can be divided .* multiples of 8"):
        check_grid(("grpo-disjoint",), (4,), (0.1,))
    with pytest.raises(ValueError, match=r"eta K = 2.0: a step is > 0, and below 2, .* give say 0.1"):
        check_grid(("grpo",), (4,), (2.0,))
    assert check_grid(tuple(SERIES), (4, 8), (0.1,)) is None
