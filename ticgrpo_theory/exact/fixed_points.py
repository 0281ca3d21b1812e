"""The fixed point of an estimator: the policy at which its mean step is zero, and to which it leads back."""

from typing import cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.worlds.catalogue import first_token
from ticgrpo_theory.worlds.mdp import TokenMDP

SCANNED = np.linspace(0.02, 0.98, 13)
"""Probabilities of token 0 between which the sign of the mean step is looked for."""


def mean_step(mdp: TokenMDP, p: float, estimator: EstimatorLike, group_size: int | float) -> float:
    """E[g_hat] of the logit of token 0 at theta = theta_old, pi(0) = p; that of token 1 is its negative."""
    if (mdp.num_rows, mdp.vocab_size) != (1, 2):
        raise ValueError(
            f"this world has {mdp.num_rows} rows of {mdp.vocab_size} logits: only with one row of two is a "
            f"policy one number p; use expected_gradient for others"
        )
    theta = policy(mdp, p)
    return float(expected_gradient(mdp, theta, theta, estimator, group_size)[0, 0])


def policy(mdp: TokenMDP, p: float) -> Float[Tensor, "1 2"]:
    """The logits (d/2, -d/2) with pi(0) = p."""
    return first_token(p)(mdp)


def fixed_point(mdp: TokenMDP, estimator: EstimatorLike, group_size: int | float) -> float:
    """The p in (0.02, 0.98) with E[g_hat] = 0 at theta = theta_old = policy(p), E[g_hat] falling there.

    Small steps on fresh groups converge to it. To about 1e-14. Raises ValueError where there is none or
    more than one, and for a world of other than one row of two tokens.
    """
    steps = np.array([mean_step(mdp, p, estimator, group_size) for p in SCANNED])
    falls = [i for i in range(len(steps) - 1) if steps[i] > 0 >= steps[i + 1]]
    if len(falls) != 1:
        raise ValueError(
            f"the mean step changes from up to down {len(falls)} times for p in "
            f"[{SCANNED[0]:.2f}, {SCANNED[-1]:.2f}]: a fixed point is defined where it does once"
        )
    low, high = SCANNED[falls[0]], SCANNED[falls[0] + 1]
    close = {"xtol": 1e-15, "rtol": np.float64(1e-14)}
    return cast(float, brentq(lambda p: mean_step(mdp, p, estimator, group_size), low, high, **close))
