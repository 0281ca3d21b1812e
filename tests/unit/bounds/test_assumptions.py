"""Constants of the paper's assumptions: proved ones are attained or never exceeded by what a search finds."""

import math

import pytest
import torch

from tests.properties.tolerances import DIFFERENCED
from ticgrpo_theory.bounds import assumptions
from ticgrpo_theory.bounds.assumptions import curvature, score, turning
from ticgrpo_theory.claims import autograd_reference
from ticgrpo_theory.exact.responses.many_policies import unroll
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.stats.rng import stream
from ticgrpo_theory.worlds import WORLDS


def check_one_row_by_hand() -> None:
    """J = 2 p (1 - p): the second derivative is 1/2 at p = 1/2, half of what is proved; r is 0 or 1."""
    found = assumptions(WORLDS["xor"].build(), tries=8)
    assert found["L"].proved == 1.0 and not found["L"].exact
    assert found["L"].found == pytest.approx(0.5, abs=1e-3) and found["L"].found <= 0.5 + DIFFERENCED["atol"]
    assert found["L_0"].proved == 0.5 and 0.499 < found["L_0"].found <= 0.5
    assert 1.41 < found["score"].found < found["score"].proved == math.sqrt(2)
    assert found["R"].proved == found["R"].found == 1.0


def test_one_row_by_hand():
    check_one_row_by_hand()


@pytest.mark.parametrize("world", ["few-values", "length-trap", "two-prompts", "bandit"])
def test_no_search_exceeds_what_is_proved(world):
    found = assumptions(WORLDS[world].build(), tries=6)
    for constant in found.values():
        assert 0 < constant.found <= constant.proved + DIFFERENCED["atol"]
    # Partner: a quarter of L would be exceeded.
    assert found["L"].found > found["L"].proved / 4 or world == "length-trap"


def test_the_exchanged_bodies_are_said():
    found = assumptions(WORLDS["bandit"].build(), tries=1)
    assert "the body printed under 5.2" in found["L_0"].assumption
    assert "smoothness of J follows" in found["L"].assumption


def check_measures() -> None:
    """Against the derivatives written out with autograd."""
    mdp = WORLDS["distinct-values"].build()
    theta = torch.stack([f * WORLDS["distinct-values"].theta_old(mdp) for f in (1.0, -2.0)])
    prompts = unroll(mdp, torch.zeros_like(theta[0]), None)
    bent = curvature(prompts, theta, stream(0, "test"))
    for i, table in enumerate(theta):
        exact = autograd_reference.curvature(mdp, table)
        assert 0.9 * exact < bent[i].item() <= exact + DIFFERENCED["atol"]
        assert turning(theta)[i].item() == pytest.approx(
            autograd_reference.score_derivative(table), abs=1e-12
        )
    even = torch.zeros(1, 1, 2, dtype=torch.float64)
    assert score(even).item() == pytest.approx(math.sqrt(0.5), abs=1e-12)


def test_what_is_searched_is_what_is_bounded():
    check_measures()


def test_a_single_token_has_nothing_to_learn():
    found = assumptions(TokenMDP.prefix_tree(vocab_size=1, horizon=2, reward=[3.0]), tries=1)
    assert found["L_0"].proved == found["L"].proved == 0.0 and found["R"].proved == 3.0
    with pytest.raises(ValueError, match="tries = 0: the search needs at least one policy"):
        assumptions(WORLDS["xor"].build(), tries=0)
