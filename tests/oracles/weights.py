"""Token weights c[i][t] of the named estimators, each written out on its own with loops and if-statements.

A group is a list of responses (logp, logp_old, reward): the log-probabilities of its tokens under theta and
theta_old. The gradient of an estimator is sum_it c[i][t] grad log pi(a[i,t] | s[i,t-1]). Beyond the clip a
weight is 0; at the clip it is on. `horizon` is the longest response the world allows; only `dr_grpo` reads
it.
"""

import math

Group = list[tuple[list[float], list[float], float]]
Table = list[list[float]]


def ratio(log_w: float) -> float:
    """w = exp(log_w), infinite where a float cannot hold it, so that a clip from above still applies."""
    return math.exp(log_w) if log_w < 709.0 else math.inf


def standardised(group: Group, delta: float) -> list[float]:
    """A_i = (r_i - mean r) / (sigma + delta), sigma^2 = (1/G) sum_j (r_j - mean r)^2.

    0 where all rewards are equal.
    """
    rewards = [reward for _, _, reward in group]
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    mean = sum(rewards) / len(rewards)
    sigma = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))
    return [(r - mean) / (sigma + delta) for r in rewards]


def centred(group: Group) -> list[float]:
    """A_i = r_i - mean r; 0 where all rewards are equal."""
    rewards = [reward for _, _, reward in group]
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    mean = sum(rewards) / len(rewards)
    return [r - mean for r in rewards]


def leave_one_out(group: Group) -> list[float]:
    """A_i = r_i - (1/(G-1)) sum_{j != i} r_j; 0 where all rewards are equal."""
    rewards = [reward for _, _, reward in group]
    if len(rewards) < 2:
        raise ValueError(f"leave-one-out needs G >= 2, got G = {len(rewards)}; use reinforce")
    if max(rewards) == min(rewards):
        return [0.0] * len(rewards)
    advantages = []
    for i, r in enumerate(rewards):
        others = rewards[:i] + rewards[i + 1 :]
        advantages.append(r - sum(others) / len(others))
    return advantages


def log_ratio_sum(logp: list[float], logp_old: list[float]) -> float:
    """log w' = sum_t (logp[t] - logp_old[t])."""
    return sum(x - y for x, y in zip(logp, logp_old, strict=True))


def ppo_token_weight(w: float, A: float, eps_low: float, eps_high: float) -> float:
    """w A, switched off where A >= 0 and w > 1 + eps_high, or A < 0 and w < 1 - eps_low."""
    if A >= 0 and w > 1 + eps_high:
        return 0.0
    if A < 0 and w < 1 - eps_low:
        return 0.0
    return w * A


def grpo(
    group: Group, horizon: int, delta: float = 1e-6, eps_low: float = 0.2, eps_high: float = 0.2
) -> Table:
    """w_t A / (G |s_i|), w the token ratio; A standardised; PPO clip."""
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        row = []
        for t in range(len(logp)):
            w = ratio(logp[t] - logp_old[t])
            row.append(ppo_token_weight(w, A, eps_low, eps_high) / (len(group) * len(logp)))
        weights.append(row)
    return weights


def dapo(
    group: Group, horizon: int, delta: float = 1e-6, eps_low: float = 0.2, eps_high: float = 0.28
) -> Table:
    """w_t A / sum_j |s_j|, w the token ratio; A standardised; PPO clip with a higher upper end."""
    tokens = sum(len(logp) for logp, _, _ in group)
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        row = []
        for t in range(len(logp)):
            w = ratio(logp[t] - logp_old[t])
            row.append(ppo_token_weight(w, A, eps_low, eps_high) / tokens)
        weights.append(row)
    return weights


def dr_grpo(group: Group, horizon: int, eps_low: float = 0.2, eps_high: float = 0.2) -> Table:
    """w_t A / (G horizon), w the token ratio; A centred; PPO clip."""
    weights = []
    for (logp, logp_old, _), A in zip(group, centred(group), strict=True):
        row = []
        for t in range(len(logp)):
            w = ratio(logp[t] - logp_old[t])
            row.append(ppo_token_weight(w, A, eps_low, eps_high) / (len(group) * horizon))
        weights.append(row)
    return weights


def no_is(group: Group, horizon: int, delta: float = 1e-6) -> Table:
    """A / (G |s_i|); A standardised."""
    weights = []
    for (logp, _, _), A in zip(group, standardised(group, delta), strict=True):
        weights.append([A / (len(group) * len(logp)) for _ in logp])
    return weights


def stale(group: Group, horizon: int, delta: float = 1e-6) -> Table:
    """The weights of `no_is`; what differs is the score, taken at theta_old by whoever multiplies."""
    return no_is(group, horizon, delta)


def tic_grpo(group: Group, horizon: int, delta: float = 1e-6, eps_high: float = 0.28) -> Table:
    """w' A / G, w' the trajectory ratio; A standardised; off where w' > 1 + eps_high, whatever the sign."""
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        w = ratio(log_ratio_sum(logp, logp_old))
        c = 0.0 if w > 1 + eps_high else w * A / len(group)
        weights.append([c for _ in logp])
    return weights


def tic_grpo_eq11(group: Group, horizon: int, delta: float = 1e-6, eps_high: float = 0.28) -> Table:
    """w' A / (G |s_i|), w' the trajectory ratio; A standardised; off where w' > 1 + eps_high."""
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        w = ratio(log_ratio_sum(logp, logp_old))
        c = 0.0 if w > 1 + eps_high else w * A / (len(group) * len(logp))
        weights.append([c for _ in logp])
    return weights


def tic_grpo_released(
    group: Group,
    horizon: int,
    delta: float = 1e-6,
    cap: float = 20.0,
    growth: float = 0.01,
    dual: float = 3.0,
) -> Table:
    """w' A / G, w' the trajectory ratio; A standardised.

    Off where |log w'| > cap; where A >= 0 and w' > exp(growth sqrt|s_i|); where A < 0 and w' > dual.
    """
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        log_w = log_ratio_sum(logp, logp_old)
        c = ratio(log_w) * A / len(group) if abs(log_w) <= cap else 0.0
        if A >= 0 and log_w > growth * math.sqrt(len(logp)):
            c = 0.0
        if A < 0 and ratio(log_w) > dual:
            c = 0.0
        weights.append([c for _ in logp])
    return weights


def seq_clip(
    group: Group,
    horizon: int,
    delta: float = 1e-6,
    cap: float = 20.0,
    eps_low: float = 0.2,
    eps_high: float = 0.28,
    dual: float = 3.0,
) -> Table:
    """w' A / sum_j |s_j|, w' the trajectory ratio; A standardised.

    Off where |log w'| > cap; where the PPO clip of w' says so; where A < 0 and w' > dual.
    """
    tokens = sum(len(logp) for logp, _, _ in group)
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        log_w = log_ratio_sum(logp, logp_old)
        w = ratio(log_w)
        c = w * A / tokens if abs(log_w) <= cap else 0.0
        if A >= 0 and w > 1 + eps_high:
            c = 0.0
        if A < 0 and (w < 1 - eps_low or w > dual):
            c = 0.0
        weights.append([c for _ in logp])
    return weights


def gspo(
    group: Group, horizon: int, delta: float = 1e-6, eps_low: float = 0.2, eps_high: float = 0.28
) -> Table:
    """s A / (G |s_i|), s = w'^(1/|s_i|); A standardised; PPO clip."""
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        s = ratio(log_ratio_sum(logp, logp_old) / len(logp))
        c = ppo_token_weight(s, A, eps_low, eps_high) / (len(group) * len(logp))
        weights.append([c for _ in logp])
    return weights


def cispo(group: Group, horizon: int, delta: float = 1e-6, eps_high: float = 0.28) -> Table:
    """min(w_t, 1 + eps_high) A / sum_j |s_j|, never off; A standardised."""
    tokens = sum(len(logp) for logp, _, _ in group)
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        row = []
        for t in range(len(logp)):
            w = ratio(logp[t] - logp_old[t])
            if w > 1 + eps_high:
                w = 1 + eps_high
            row.append(w * A / tokens)
        weights.append(row)
    return weights


def gmpo(group: Group, horizon: int, delta: float = 1e-6, eps: float = 0.4) -> Table:
    """exp(mean_u l_u) A / (G |s_i|), l the clamped log w; A standardised.

    A >= 0 clamps l at eps from above, A < 0 at -eps from below; the weight of a clamped token is off.
    """
    weights = []
    for (logp, logp_old, _), A in zip(group, standardised(group, delta), strict=True):
        clamped, on = [], []
        for t in range(len(logp)):
            log_w = logp[t] - logp_old[t]
            if A >= 0 and log_w > eps:
                clamped.append(eps)
                on.append(False)
            elif A < 0 and log_w < -eps:
                clamped.append(-eps)
                on.append(False)
            else:
                clamped.append(log_w)
                on.append(True)
        c = ratio(sum(clamped) / len(clamped)) * A / (len(group) * len(logp))
        weights.append([c if token_on else 0.0 for token_on in on])
    return weights


def rloo(group: Group, horizon: int) -> Table:
    """A / G; A leave-one-out."""
    weights = []
    for (logp, _, _), A in zip(group, leave_one_out(group), strict=True):
        weights.append([A / len(group) for _ in logp])
    return weights


def reinforce(group: Group, horizon: int) -> Table:
    """r_i / G, also where all rewards are equal."""
    return [[reward / len(group) for _ in logp] for logp, _, reward in group]


def trajectory_is(group: Group, horizon: int) -> Table:
    """w' A / G, w' the trajectory ratio; A leave-one-out."""
    weights = []
    for (logp, logp_old, _), A in zip(group, leave_one_out(group), strict=True):
        w = ratio(log_ratio_sum(logp, logp_old))
        weights.append([w * A / len(group) for _ in logp])
    return weights


def prefix_is(group: Group, horizon: int) -> Table:
    """prod_{u<=t} w_u A / G; A leave-one-out."""
    weights = []
    for (logp, logp_old, _), A in zip(group, leave_one_out(group), strict=True):
        row = []
        for t in range(len(logp)):
            w = ratio(log_ratio_sum(logp[: t + 1], logp_old[: t + 1]))
            row.append(w * A / len(group))
        weights.append(row)
    return weights


WEIGHTS = {f.__name__: f for f in (
    grpo, dapo, dr_grpo, no_is, stale, tic_grpo, tic_grpo_eq11, tic_grpo_released,
    seq_clip, gspo, cispo, gmpo, rloo, reinforce, trajectory_is, prefix_is,
)}  # fmt: skip


def token_weights(name: str, group: Group, horizon: int, **params: float) -> Table:
    """c[i][t] of the estimator called `name`; parameters that are not given have the published defaults."""
    return WEIGHTS[name](group, horizon, **params)
