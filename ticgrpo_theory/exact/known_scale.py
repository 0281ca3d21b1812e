"""The multiple of grad J that an estimator estimates before any drift: E[g_hat] = c grad J at theta_old."""

import math
from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.penalties import kl_reward
from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.expectation import mean_of
from ticgrpo_theory.exact.groups.conditional import scale_of_group_normalisation
from ticgrpo_theory.exact.groups.outcomes import INFINITE
from ticgrpo_theory.exact.mean.rounding import gradient_rounding
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.exact.problem import CheckedProblem, PromptProblem
from ticgrpo_theory.exact.updates.update import update_of
from ticgrpo_theory.stats.rounding import ROUNDING, norm, projection
from ticgrpo_theory.worlds.mdp import TokenMDP


def known_scale(
    mdp: TokenMDP,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    theta_ref: Tensor | ArrayLike | None = None,
) -> tuple[float, str]:
    """(c, kind), the scale for comparisons with grad J, and how it is known.

    "known": c = kappa c_G where all responses have one length T and all prompts one c_G; kappa is 1 for a
    sequence sum, else 1/T, and c_G = Cov(E[A_1 | r_1], r_1) / Var(r).
    "least_squares": c = argmin ||E[g_hat] - c grad J|| at theta = theta_old; negative where the estimator
    leads downhill. "none": c = 1, where grad J(theta_old) = 0 and every c is as good.
    """
    return scale_of(CheckedProblem(mdp, theta_old, theta_old, estimator, group_size, theta_ref=theta_ref))


def scale_of(problem: CheckedProblem, mean_old: Callable[[], Tensor] | None = None) -> tuple[float, str]:
    """`known_scale` of what is checked already; its theta is not read.

    `mean_old` gives E[g_hat] at theta_old where somebody has it; by default it is computed, as the problem
    says.
    """
    each = [prompt_scale(part) for _, part in problem.parts]
    first = each[0]
    update = update_of(problem.parts)
    # Prompts that count alike though grad J weighs them otherwise: together they have no scale.
    shared = update is None or not update.said
    if (
        shared
        and first is not None
        and all(c is not None and abs(c - first) <= ROUNDING * abs(first) for c in each)
    ):
        return first, "known"
    gradient = policy_gradient(problem.mdp, problem.theta_old)
    if norm(gradient) <= gradient_rounding(problem.mdp, problem.theta_old):
        return 1.0, "none"
    mean = mean_of(problem.at(problem.theta_old).parts) if mean_old is None else mean_old()
    return projection(mean, gradient), "least_squares"


def prompt_scale(problem: PromptProblem) -> float | None:
    """kappa c_G of one prompt; None where lengths or the estimator leave it open, or rewards do not vary."""
    estimator, graph, horizon = problem.estimator, problem.mdp.graph, problem.mdp.horizon
    if not isinstance(estimator, Estimator) or isinstance(estimator.penalty, kl_reward):
        return None
    if not estimator.properties.known or not problem.on_old:
        return None
    if not bool((graph.length == graph.length[0]).all()) or problem.reward_std == 0:
        return None
    # G scale at equal lengths; for an infinite group at a power of two, so that 1/G and G cancel exactly.
    G = INFINITE if problem.group_size == math.inf else int(problem.group_size)
    length = torch.tensor(int(graph.length[0]))
    kappa = G * float(estimator.scale(length, G * length, G, horizon))
    return kappa * scale_of_group_normalisation(
        estimator.advantage, graph.reward, problem.outcome_prob, problem.group_size
    )
