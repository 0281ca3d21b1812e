"""The objectives as the papers print them, as scalar functions of the token log-probabilities of one group.

Every function takes `logp` and `logp_old` (lists of G lists, one number a token) and `A` (G advantages) and
returns the number to be maximised. They are differentiated numerically, so that the token weights need no
algebra to be checked. Where a paper stops the gradient through a factor, that factor reads `frozen`, a copy
of `logp` that the differentiation leaves alone.
"""

import math
import statistics
from collections.abc import Callable

Table = list[list[float]]


def group_standardised(rewards: list[float], delta: float = 1e-6) -> list[float]:
    """A_i = (r_i - mean r) / (std r + delta), std with 1/G. Source: arXiv:2508.02833 v2, Sec. 2.2."""
    mean, std = statistics.fmean(rewards), statistics.pstdev(rewards)
    return [(r - mean) / (std + delta) for r in rewards]


def group_centred(rewards: list[float]) -> list[float]:
    """A_i = r_i - mean r. Source: arXiv:2503.20783."""
    return [r - statistics.fmean(rewards) for r in rewards]


def group_leave_one_out(rewards: list[float]) -> list[float]:
    """A_i = r_i - mean of the other rewards. Source: arXiv:2402.14740."""
    return [r - statistics.fmean(rewards[:i] + rewards[i + 1 :]) for i, r in enumerate(rewards)]


def clip(x: float, low: float, high: float) -> float:
    """max(low, min(x, high))."""
    return max(low, min(x, high))


def _log_ratio(new: list[float], old: list[float]) -> float:
    return math.fsum(x - y for x, y in zip(new, old, strict=True))


def _ppo(w: float, a: float, low: float, high: float) -> float:
    return min(w * a, clip(w, low, high) * a)


def grpo(logp: Table, logp_old: Table, A: list[float], eps_low: float = 0.2, eps_high: float = 0.2) -> float:
    """(1/G) sum_i (1/|s_i|) sum_t min(w A_i, clip(w, 1 - eps, 1 + eps) A_i).

    Source: arXiv:2508.02833 v2, Eq. 5, beta = 0.
    """
    total = 0.0
    for new, old, a in zip(logp, logp_old, A, strict=True):
        terms = [_ppo(math.exp(x - y), a, 1 - eps_low, 1 + eps_high) for x, y in zip(new, old, strict=True)]
        total += math.fsum(terms) / len(new)
    return total / len(logp)


def dapo(logp: Table, logp_old: Table, A: list[float], eps_low: float = 0.2, eps_high: float = 0.28) -> float:
    """(1/sum_j |o_j|) sum_i sum_t min(w A_i, clip(w, 1 - eps_low, 1 + eps_high) A_i).

    Source: arXiv:2503.14476, Eq. 8.
    """
    total = 0.0
    for new, old, a in zip(logp, logp_old, A, strict=True):
        for x, y in zip(new, old, strict=True):
            total += _ppo(math.exp(x - y), a, 1 - eps_low, 1 + eps_high)
    return total / sum(len(new) for new in logp)


def dr_grpo(logp: Table, logp_old: Table, A: list[float], horizon: int, eps: float = 0.2) -> float:
    """(1/G) sum_i (1/horizon) sum_t min(w A_i, clip(w, 1 - eps, 1 + eps) A_i), with A_i = r_i - mean r.

    The paper prints no factor for the length; its code divides by the response limit.
    Source: arXiv:2503.20783.
    """
    total = 0.0
    for new, old, a in zip(logp, logp_old, A, strict=True):
        for x, y in zip(new, old, strict=True):
            total += _ppo(math.exp(x - y), a, 1 - eps, 1 + eps)
    return total / (horizon * len(logp))


def no_is(logp: Table, logp_old: Table, A: list[float]) -> float:
    """(1/G) sum_i (A_i/|s_i|) sum_t log pi(a_t|s_{t-1}): `grpo` with every ratio left out.

    Source: arXiv:2508.02833 v2, the ablation without importance weights.
    """
    return math.fsum(a * math.fsum(new) / len(new) for new, a in zip(logp, A, strict=True)) / len(logp)


def tic_grpo(logp: Table, logp_old: Table, A: list[float], eps_high: float = 0.28) -> float:
    """(1/G) sum_i (1/|s_i|) sum_{t=1}^{|s_i|} min(w'_i, 1 + eps_high) A_i.

    Source: arXiv:2508.02833 v2, Eq. 9, with t running over the |s_i| tokens of the response.
    The summand does not depend on t, so |s_i| equal terms cancel 1/|s_i|: the derivative in each token of
    response i is w'_i A_i / G. The paper's own Eq. 11 keeps a 1/|s_i| that its Eq. 9 does not have
    (`tic_grpo_eq11`). The upper end holds for either sign of A_i; it is no minimum over the two products,
    which would undo it where A_i < 0.
    """
    total = 0.0
    for new, old, a in zip(logp, logp_old, A, strict=True):
        w = math.exp(_log_ratio(new, old))
        total += math.fsum(min(w, 1 + eps_high) * a for _ in new) / len(new)
    return total / len(logp)


def tic_grpo_eq11(logp: Table, logp_old: Table, A: list[float], eps_high: float = 0.28) -> float:
    """(1/G) sum_i (1/|s_i|) min(w'_i, 1 + eps_high) A_i, whose gradient is the unexpanded field of Eq. 11.

    Source: arXiv:2508.02833 v2, Eq. 11, first line.
    """
    total = 0.0
    for new, old, a in zip(logp, logp_old, A, strict=True):
        total += min(math.exp(_log_ratio(new, old)), 1 + eps_high) * a / len(new)
    return total / len(logp)


def _dual_clipped_loss(w: float, clipped_w: float, a: float, dual: float) -> float:
    """max(-w a, -clip(w) a), and for a < 0 no more than -dual a. Source: arXiv:1912.09729."""
    loss = max(-w * a, -clipped_w * a)
    return min(loss, -dual * a) if a < 0 else loss


def tic_grpo_released(
    logp: Table, logp_old: Table, A: list[float], cap: float = 20.0, growth: float = 0.01, dual: float = 3.0
) -> float:
    """-(1/G) sum_i max(-w' A, -min(w', b) A), dual-clipped; log w' in [-cap, cap], b = exp(growth sqrt|s|).

    Source: the authors' published loss `tic-grpo` (github.com/pangleipll/dynamic_sen_clip at 3b37d82). It has
    no lower end.
    """
    losses = []
    for new, old, a in zip(logp, logp_old, A, strict=True):
        log_w = clip(_log_ratio(new, old), -cap, cap)
        clipped_w = math.exp(min(log_w, growth * math.sqrt(len(new))))
        losses.append(_dual_clipped_loss(math.exp(log_w), clipped_w, a, dual))
    return -math.fsum(losses) / len(logp)


def seq_clip(
    logp: Table,
    logp_old: Table,
    A: list[float],
    cap: float = 20.0,
    eps_low: float = 0.2,
    eps_high: float = 0.28,
    dual: float = 3.0,
) -> float:
    """-(1/sum_j |s_j|) sum_i max(-w' A, -clip(w', .8, 1.28) A), dual-clipped, one term a response.

    Source: the loss `seq_rloo` of the same repository, which the authors' logged runs used under the name
    `seq_clip`.
    """
    losses = []
    for new, old, a in zip(logp, logp_old, A, strict=True):
        w = math.exp(clip(_log_ratio(new, old), -cap, cap))
        losses.append(_dual_clipped_loss(w, clip(w, 1 - eps_low, 1 + eps_high), a, dual))
    return -math.fsum(losses) / sum(len(new) for new in logp)


def gspo(logp: Table, logp_old: Table, A: list[float], eps_low: float = 0.2, eps_high: float = 0.28) -> float:
    """(1/G) sum_i min(s_i A_i, clip(s_i) A_i), s_i = (w'_i)^(1/|y_i|).

    Source: arXiv:2507.18071 v2, Eq. 5 and 7.
    """
    total = 0.0
    for new, old, a in zip(logp, logp_old, A, strict=True):
        s = math.exp(_log_ratio(new, old)) ** (1 / len(new))
        total += _ppo(s, a, 1 - eps_low, 1 + eps_high)
    return total / len(logp)


def gmpo(logp: Table, logp_old: Table, A: list[float], eps: float = 0.4) -> float:
    """(1/G) sum_i (prod_t |min(w A_i, clip(w, e^-eps, e^eps) A_i)|)^(1/|o_i|) sign(A_i).

    Source: arXiv:2507.20673.
    """
    total = 0.0
    for new, old, a in zip(logp, logp_old, A, strict=True):
        product = 1.0
        for x, y in zip(new, old, strict=True):
            product *= abs(_ppo(math.exp(x - y), a, math.exp(-eps), math.exp(eps)))
        total += math.copysign(product ** (1 / len(new)), a)
    return total / len(logp)


def cispo(logp: Table, logp_old: Table, A: list[float], frozen: Table, eps_high: float = 0.28) -> float:
    """(1/sum_j |o_j|) sum_i sum_t sg(min(w, 1 + eps_high)) A_i log pi(a_t|s_{t-1}).

    Source: arXiv:2506.13585, Eq. 4 and 5.
    """
    total = 0.0
    for new, held, old, a in zip(logp, frozen, logp_old, A, strict=True):
        for x, x_held, y in zip(new, held, old, strict=True):
            total += min(math.exp(x_held - y), 1 + eps_high) * a * x
    return total / sum(len(new) for new in logp)


def sequence_score(logp: Table, logp_old: Table, A: list[float]) -> float:
    """(1/G) sum_i A_i log P(s_i): REINFORCE with A_i = r_i, RLOO with the leave-one-out A_i.

    Source: arXiv:2402.14740.
    """
    return math.fsum(a * math.fsum(new) for new, a in zip(logp, A, strict=True)) / len(logp)


def trajectory_is(logp: Table, logp_old: Table, A: list[float]) -> float:
    """(1/G) sum_i w'_i A_i, the importance-weighted value of the group."""
    values = [math.exp(_log_ratio(new, old)) * a for new, old, a in zip(logp, logp_old, A, strict=True)]
    return math.fsum(values) / len(logp)


def prefix_is(logp: Table, logp_old: Table, A: list[float], frozen: Table) -> float:
    """(1/G) sum_i A_i sum_t sg(prod_{u<=t} w_u) log pi(a_t|s_{t-1}).

    Source: per-decision importance weights, Precup, Sutton and Singh, ICML 2000.
    """
    total = 0.0
    for new, held, old, a in zip(logp, frozen, logp_old, A, strict=True):
        product = 1.0
        for x, x_held, y in zip(new, held, old, strict=True):
            product *= math.exp(x_held) / math.exp(y)
            total += product * a * x
    return total / len(logp)


def central_difference(f: Callable[[Table], float], logp: Table, step: float = 1e-3) -> Table:
    """df/dlogp[i][t] = (8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / (12 h).

    The error is of order h^4 away from the kinks of a clip.
    """

    def moved(i: int, t: int, by: float) -> float:
        table = [list(row) for row in logp]
        table[i][t] += by
        return f(table)

    def derivative(i: int, t: int) -> float:
        near = moved(i, t, step) - moved(i, t, -step)
        far = moved(i, t, 2 * step) - moved(i, t, -2 * step)
        return (8 * near - far) / (12 * step)

    return [[derivative(i, t) for t in range(len(row))] for i, row in enumerate(logp)]
