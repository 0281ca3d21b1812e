"""exact/expectation.py: the reference instance, to the printed digits, by every method that applies."""

import pytest
import torch

from tests.instances.reference_instance import BINARY, OLD, TERNARY, THETA
from tests.properties.tolerances import EXACT, PRINTED
from ticgrpo_theory.estimators import Estimator, catalogue
from ticgrpo_theory.estimators.advantages import leave_one_out, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import Ratio, none, prefix, token, trajectory
from ticgrpo_theory.estimators.scales import sequence_sum
from ticgrpo_theory.exact import expected_gradient, policy_gradient
from ticgrpo_theory.mdp import TokenMDP


def double(numbers: list) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


STD = standardised(delta=0.0)
PREFIX = Estimator(prefix, STD, unclipped(), sequence_sum)
UNCLIPPED_TIC = Estimator(trajectory, STD, unclipped(), sequence_sum)
# Component of token 0 in each row (the other is its negative), G = 4, for the binary and the ternary reward.
FIRST_MOMENTS = {
    "token, sequence mean": (
        catalogue.grpo(0.2, 0.28, delta=0.0),
        [-0.1543384912, 0.0566082035, 0.0],
        [-0.1558067884, 0.0694486196, -0.0019463114],
    ),
    "token, sequence mean, delta 0.1": (
        catalogue.grpo(0.2, 0.28, delta=0.1),
        [-0.1268713566, 0.0465338200, 0.0],
        [-0.1241394469, 0.0550413279, -0.0011311585],
    ),
    "token, token mean": (
        catalogue.dapo(0.2, 0.28, delta=0.0),
        [-0.1193934908, 0.0669363117, 0.0],
        [-0.1196203576, 0.0791606381, -0.0023656207],
    ),
    "token, token mean, delta 0.1": (
        catalogue.dapo(0.2, 0.28, delta=0.1),
        [-0.0981149136, 0.0550069237, 0.0],
        [-0.0953210521, 0.0630456065, -0.0013743679],
    ),
    "trajectory, upper clip, sequence mean": (
        catalogue.tic_grpo_eq11(delta=0.0),
        [-0.1073685655, 0.0121769703, 0.0235395262],
        [-0.1047479314, 0.0159707540, 0.0195159006],
    ),
    "trajectory, upper clip, sequence sum": (
        catalogue.tic_grpo(delta=0.0),
        [-0.1014469120, 0.0365309110, 0.0706185786],
        [-0.0969813632, 0.0479122619, 0.0585477017],
    ),
    "trajectory, no clip, sequence sum": (
        UNCLIPPED_TIC,
        [-0.1995959418, 0.1708965843, 0.0706185786],
        [-0.2181456726, 0.2137857714, 0.0585477017],
    ),
    "no ratio, score at theta": (
        catalogue.no_is(delta=0.0),
        [-0.2830354055, 0.0016707216, 0.0519187717],
        [-0.2803080321, 0.0217353520, 0.0387965964],
    ),
    "no ratio, score at theta_old": (
        catalogue.stale(delta=0.0),
        [-0.2406986400, 0.0473468012, 0.0406884602],
        [-0.2407940957, 0.0696080097, 0.0337335568],
    ),
    "prefix, no clip, sequence sum": (
        PREFIX,
        [-0.1920634164, 0.0877657487, 0.0706185786],
        [-0.1891071993, 0.1448645404, 0.0585477017],
    ),
}


def check_first_moment(row: str, reward: int) -> None:
    estimator, *expected = FIRST_MOMENTS[row]
    mdp = (BINARY, TERNARY)[reward]
    for method in ("enumeration", "groups", "auto"):
        found = expected_gradient(mdp, THETA, OLD, estimator, 4, method)
        torch.testing.assert_close(found[:, 0], double(expected[reward]), **PRINTED(10))
        torch.testing.assert_close(found[:, 1], -found[:, 0], **EXACT)


@pytest.mark.parametrize("reward", [0, 1], ids=["binary", "ternary"])
@pytest.mark.parametrize("row", FIRST_MOMENTS)
def test_first_moments_of_the_reference_instance_to_the_printed_digits(row, reward):
    check_first_moment(row, reward)


def leave_one_out_gap(ratio: Ratio, mdp: TokenMDP, G: int = 3) -> float:
    """||E[g_hat] - grad J(theta)|| with leave-one-out advantages, no clip, 1/G."""
    estimator = Estimator(ratio, leave_one_out(), unclipped(), sequence_sum)
    gap = expected_gradient(mdp, THETA, OLD, estimator, G) - policy_gradient(mdp, THETA)
    return float(gap.norm())


GAPS = {
    trajectory: (0.0, 0.0),
    prefix: (0.0730095125, 0.0567763984),
    token: (0.1030520241, 0.0936700630),
    none: (0.2099892544, 0.1585233522),
}


@pytest.mark.parametrize("ratio", GAPS)
def test_what_leave_one_out_misses_on_the_reference_instance_to_the_printed_digits(ratio):
    found = double([leave_one_out_gap(ratio, mdp) for mdp in (BINARY, TERNARY)])
    torch.testing.assert_close(found, double(list(GAPS[ratio])), **PRINTED(10))
