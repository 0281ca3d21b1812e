"""E[g_hat] of responses of T tokens that all come from one row: a sum over how often each token occurs.

    E[g_hat]_a = sum_n P_mu(n) phi(n) (f+(n) c+(w) + f-(n) c-(w)) (n_a - T pi_theta(a)),   sum_a n_a = T,

with the multinomial probability P_mu(n), log w = sum_a n_a (log pi_theta - log pi_old)(a) pooled as the
estimator does. There are C(T + V - 1, V - 1) vectors n: T = 18,000 with V = 2, T = 1,024 with V = 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import ArrayLike
from scipy.special import gammaln
from torch import Tensor

from ticgrpo_theory.estimators import ratios
from ticgrpo_theory.estimators.clipping import has_table
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import EstimatorLike, exact_group_size, resolve
from ticgrpo_theory.exact.dynamic.shared_row import counts_of
from ticgrpo_theory.exact.groups.conditional import conditional_advantages
from ticgrpo_theory.exact.groups.outcomes import outcomes
from ticgrpo_theory.inputs.numbers import shown, whole_number
from ticgrpo_theory.worlds.policy import check_support, log_probabilities, real_table

FloatsV = Float64[np.ndarray, " V"]


class Counted(NamedTuple):
    """What the counts say: E[g_hat], J(theta), grad J(theta), and the mass of theta_old that has a weight."""

    value: FloatsV
    expected_return: float
    gradient: FloatsV
    kept: float
    """P_old of the responses whose weight is not 0 for A >= 0."""
    deviation: float
    """Standard deviation of log w' = sum_t l_t under theta_old."""


def one_row(
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group_size: int | float,
    horizon: int,
    reward: Callable[[Float64[np.ndarray, "M V"]], Float64[np.ndarray, " M"]],
) -> Counted:
    """E[g_hat] of `estimator`, a trajectory or geometric ratio with its clip, drawn by theta_old.

    theta, theta_old: logits [V] of the row. `reward` gives one number for each count vector [M, V].
    Raises ValueError for tables that are no rows, unequal sizes, a token that theta draws and theta_old
    forbids, rewards that are not finite numbers, an estimator that does not weigh whole responses, and more
    than MAX_COUNTS count vectors.
    """
    given = checked(resolve(estimator))
    T = whole_number("horizon", horizon, 1, "tokens of a response")
    now, old = (
        real_table(table, name, "logits of one row, (V,)").reshape(1, -1)
        for table, name in ((theta, "theta"), (theta_old, "theta_old"))
    )
    if now.shape != old.shape:
        raise ValueError(f"theta has {now.shape[1]} logits, theta_old {old.shape[1]}: give one row of both")
    check_support(now, old)
    log_pi, log_old = log_probabilities(now)[0].numpy(), log_probabilities(old)[0].numpy()
    if not np.isfinite(log_pi).all() or not np.isfinite(log_old).all():
        raise ValueError("a token of the row is masked (-inf): leave it out of theta and theta_old")
    n = counts_of(T, log_pi.size)
    r = np.asarray(reward(n), dtype=np.float64)
    if r.shape != (len(n),) or not np.isfinite(r).all():
        raise ValueError(f"reward gave {shown(r)}: give one finite number for each of {len(n):,} counts")
    ways = gammaln(T + 1) - gammaln(n + 1).sum(axis=1)
    P, P_old = np.exp(ways + n @ log_pi), np.exp(ways + n @ log_old)
    log_ratio = log_pi - log_old
    group_size = exact_group_size(group_size, given)
    case = outcomes(given.advantage, given.scale, r, np.full(len(n), T), P_old, group_size, T)
    plus, minus = conditional_advantages(case)
    pooled = n @ log_ratio / (T if given.ratio is ratios.geometric_mean else 1)
    v = torch.from_numpy(pooled)[:, None, None]
    length = torch.full(v.shape[:2], T)
    weights = []
    for positive in (True, False):
        lo, hi = given.clip.bounds(torch.full(length.shape, positive), length)
        mask = torch.ones(v.shape, dtype=torch.bool)
        weights.append(
            given.clip.weight(ratios.token, v, mask, lo[..., None], hi[..., None])[:, 0, 0].numpy()
        )
    share = P_old * (plus * weights[0] + minus * weights[1])
    score = n - T * np.exp(log_pi)
    p = np.exp(log_old)
    spread = np.sqrt(T * max(float(p @ (log_ratio - p @ log_ratio) ** 2), 0.0))
    kept = float(P_old[weights[0] > 0].sum())
    return Counted(share @ score, float(P @ r), (P * r) @ score, kept, float(spread))


def checked(given: object) -> Estimator:
    """The estimator; raises ValueError for what does not weigh whole responses drawn by theta_old."""
    if (
        not isinstance(given, Estimator)
        or given.ratio not in (ratios.trajectory, ratios.geometric_mean)
        or not has_table(given.clip)
        or given.correction is not None
        or given.penalty is not None
        or given.reads_update
        or not given.properties.known
    ):
        raise ValueError(
            f"estimator = {shown(given)} does not weigh whole responses by their ratio alone: give one of "
            f"trajectory or geometric ratio with a clip, or use expected_gradient on a world"
        )
    return given
