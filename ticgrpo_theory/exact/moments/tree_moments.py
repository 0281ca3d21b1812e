"""Second moments on a prefix tree where one pooled ratio weighs the whole response: clipped, of any length.

No row is read twice, so that ||Phi||^2 = u^2 sum_t ||psi_t||^2, and u^2 = c(w^e)^2 is the weight of the ratio
w^(2e) under the squared bounds: the compiled pass that sums first moments sums these as well.
"""

import numpy as np
import torch
from jaxtyping import Float

from ticgrpo_theory.exact.moments import scores
from ticgrpo_theory.exact.moments.one_response import Squares, policy, tokens
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.tree.tree_weights import response_weights


def squares(problem: PromptProblem, F: Float[np.ndarray, "2 O"]) -> Squares:
    """The sums of one_response.py."""
    estimator = problem.axes
    score = policy(estimator.score(problem.theta, problem.theta_old))
    double = response_weights(problem, F[0], F[1], power=2)
    norms = torch.from_numpy(scores.norms(score))
    weight = response_weights(problem, F[0], F[1])
    return Squares(
        float((double * norms).sum()), float(weight.sum()), float(double.sum()), tokens(problem, F)
    )
