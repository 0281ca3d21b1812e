"""Second moments and variances against printed digits: short responses that end, and long ones on one row."""

import math

import pytest

from tests.instances.worlds_by_hand import OLD, THETA, eos_tree, majority
from tests.properties.tolerances import EXACT, PRINTED
from ticgrpo_theory.estimators import catalogue, ratios
from ticgrpo_theory.estimators.advantages import population, standardised
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import sequence_mean, sequence_sum
from ticgrpo_theory.exact import gradient_moments

R1 = [
    # estimator, binary E||g_hat||^2, ternary E||g_hat||^2; G = 4
    (catalogue.grpo(0.2, 0.28, 0.0), 0.0700406632, 0.0735577473),
    (catalogue.grpo(0.2, 0.28, 0.1), 0.0474064085, 0.0468962980),
    (catalogue.dapo(delta=0.0), 0.0520553240, 0.0551950749),
    (catalogue.dapo(delta=0.1), 0.0351733454, 0.0353164380),
    (catalogue.tic_grpo_eq11(delta=0.0), 0.0388682682, 0.0374152750),
    (catalogue.tic_grpo(delta=0.0), 0.0886066875, 0.0857961519),
    (catalogue.tic_grpo(math.inf, delta=0.0), 0.2685325154, 0.3157086298),
    (catalogue.no_is(delta=0.0), 0.2320071948, 0.2288748427),
    (catalogue.stale(delta=0.0), 0.1747331565, 0.1792776035),
    (Estimator(ratios.prefix, standardised(0.0), unclipped(), sequence_sum), 0.2099280050, 0.2455130335),
]  # fmt: skip


def check_printed_second_moments(estimator, binary, ternary, method) -> None:
    for reward, printed in (((1.0, 0.0, 0.0, 1.0), binary), ((1.0, 0.3, 0.0, 1.0), ternary)):
        found = gradient_moments(eos_tree(reward), THETA, OLD, estimator, group_size=4, method=method)
        assert found.second_moment == pytest.approx(printed, abs=PRINTED(10)["atol"], rel=0)


@pytest.mark.parametrize("method", ["auto", "enumeration", "groups"])
@pytest.mark.parametrize("estimator, binary, ternary", R1)
def test_second_moments_have_the_printed_digits(estimator, binary, ternary, method):
    check_printed_second_moments(estimator, binary, ternary, method)


R10 = [
    # T, variance of the trajectory and of the token ratio, bias^2 of the token ratio, E w'^2
    (2, 0.11980971, 0.17622636, None, 1.346560),
    (4, 0.09181925, 0.05927614, 0.01422778, 1.813223),
    (8, 0.13949816, 0.02269529, 0.01185677, 3.287777),
    (12, 0.23995102, 0.01362301, 0.01062725, 5.961471),
]
QUOTIENTS = {4: (1.549009, 2.2873), 8: (6.146569, 9.8512), 12: (17.613651, 21.2970)}
"""The variance of the trajectory ratio over that of the token ratio, and the group size of equal errors."""


def check_shared_row(T: int, trajectory: float, token: float, bias: float | None, ratio: float) -> None:
    shift = 0.6 / math.sqrt(2)
    found = {}
    for pooled in (ratios.trajectory, ratios.token):
        z = Estimator(pooled, population(), unclipped(), sequence_mean)
        found[pooled] = gradient_moments(majority(T), [[shift, -shift]], [[0.0, 0.0]], z, group_size=1)
    correct, wrong = found[ratios.trajectory], found[ratios.token]
    assert correct.variance == pytest.approx(trajectory, abs=PRINTED(8)["atol"], rel=0)
    assert wrong.variance == pytest.approx(token, abs=PRINTED(8)["atol"], rel=0)
    assert correct.ratio_second_moment == pytest.approx(ratio, abs=PRINTED(6)["atol"], rel=0)
    assert correct.mse_scaled - correct.variance == pytest.approx(0.0, abs=EXACT["atol"])
    if bias is not None:
        assert wrong.mse_scaled - wrong.variance == pytest.approx(bias, abs=PRINTED(8)["atol"], rel=0)
        quotient, crossover = QUOTIENTS[T]
        assert correct.variance / wrong.variance == pytest.approx(quotient, abs=PRINTED(6)["atol"], rel=0)
        # The group size from which the trajectory ratio has the smaller error.
        found_at = (correct.variance - wrong.variance) / (wrong.mse_scaled - wrong.variance)
        assert found_at == pytest.approx(crossover, abs=PRINTED(4)["atol"], rel=0)


@pytest.mark.parametrize("T, trajectory, token, bias, ratio", R10)
def test_variances_of_single_responses_on_a_shared_row_have_the_printed_digits(
    T, trajectory, token, bias, ratio
):
    check_shared_row(T, trajectory, token, bias, ratio)
