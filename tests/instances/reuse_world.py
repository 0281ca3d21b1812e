"""The world of the printed reuse instances: two tokens, right when they are equal, J about one half."""

import math

import torch

from tests.properties.tolerances import PRINTED
from ticgrpo_theory.estimators import Estimator
from ticgrpo_theory.estimators.advantages import population
from ticgrpo_theory.estimators.catalogue import tic_grpo_eq11
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.ratios import trajectory
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import expected_return
from ticgrpo_theory.exact.dynamic.forward_backward import outcome_distribution
from ticgrpo_theory.exact.groups.conditional import scale_of_group_normalisation
from ticgrpo_theory.mdp import TokenMDP

MATCH = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.0, 1.0])
START = [[0.3, -0.1], [0.2, 0.5], [-0.4, 0.1]]
J = expected_return(MATCH, START)
SIGMA = math.sqrt(J * (1 - J))

Z = Estimator(trajectory, population(), unclipped(), sequence_mean)
"""Trajectory ratio without clip, A = z: E[g_hat] = grad J / (2 sigma) at a theta independent of the group."""

FREE_TIC = tic_grpo_eq11(eps_high=math.inf, delta=0.0)
"""The same with the statistics of the group: E[g_hat] = c_G / 2 grad J."""


def c_G(G: int) -> float:
    """The multiple of grad J that group-standardised advantages estimate here, times the length."""
    distribution = outcome_distribution(MATCH.graph, torch.tensor(START, dtype=torch.float64).numpy())
    return scale_of_group_normalisation(FREE_TIC.advantage, MATCH.graph.reward, distribution, G)


def norms(table: torch.Tensor) -> torch.Tensor:
    """The norm over all logits, for each k."""
    return table.flatten(start_dim=1).norm(dim=1)


def close(found, printed, digits: int) -> None:
    """Equal to numbers printed with so many decimals."""
    found, printed = (torch.as_tensor(x, dtype=torch.float64) for x in (found, printed))
    torch.testing.assert_close(found, printed, **PRINTED(digits))
