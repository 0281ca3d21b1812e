"""Is a logged trajectory ratio the ratio of two policies, or noise between two evaluations of nearly one?

For responses of theta_old, w' = P_theta / P_old has three properties that hold whatever the policies are:

    E w' = 1                              exactly, because P_theta adds up to 1
    E log w' = -Var(log w') / 2           if log w' is normal, which E w' = 1 then demands
    Var(log w') = 2 KL |s|                to second order, with KL per token of theta_old to theta and |s|
                                          tokens: both are quadratic in theta - theta_old, by Fisher's matrix

Noise that enters when log-probabilities are evaluated twice (another kernel, another batch shape, bfloat16)
is centred whatever its size: E log w' = 0, and normal noise of variance v has E w' = exp(v / 2) > 1. Where KL
is the mean of log pi_old - log pi, as verl logs it, the second and third line are two views of one number and
count once; the first is independent of them. Standard deviations that were taken within micro-batches and
averaged come out a little low.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
from scipy import stats

from ticgrpo_theory.training_logs.comparison import BLOCKS, block_error
from ticgrpo_theory.training_logs.runs import Run

NEEDED = ("log_ratio_mean", "log_ratio_sd", "kl", "length")


@dataclass(frozen=True)
class LogRatio:
    """Of one run; means over its steps."""

    steps: int
    mean: float
    """E log w'."""
    mean_error: float
    sd: float
    """sqrt of the mean over steps of the variance."""
    mean_if_ratio: float
    """-sd^2 / 2: the mean that a log-normal ratio of this sd has."""
    token_sd: float
    """Mean over steps of sd / sqrt(|s|): the noise of one token, were tokens independent."""
    explained: float
    """2 E[KL |s|] / sd^2: share of the variance that comes with the logged KL."""
    explained_error: float
    sd_if_ratio: float
    """sqrt(2 E[KL |s|]): the sd that comes with the logged KL; 0 where that KL is not above 0."""
    ratio_mean_median: float
    """Median over steps of the mean of w'; nan where it was not logged."""
    ratio_mean_least: float
    """Least over steps of the mean of w'."""
    ratio_mean_if_noise: float
    """exp(sd^2 / 2 + mean): the mean of w' were log w' normal with the logged mean and sd."""
    ratio_largest: float
    outside_clip: float
    """Probability of w' outside [1 - eps_low, 1 + eps_high] under that normal; nan without a logged clip."""
    sd_entropy_correlation: float
    """Over steps, of sd and the entropy of the policy; nan where it was not logged."""


def log_ratio(run: Run) -> LogRatio:
    """Mean against -sd^2/2, and the share of the variance that 2 KL |s| accounts for."""
    missing = [name for name in NEEDED if not len(run.metric(name))]
    if missing:
        raise ValueError(
            f"run {run.name} has no {', '.join(missing)}; log the mean and standard deviation of the summed "
            f"log-ratio of a response, ppo_kl and the response length, and map the keys with --rename"
        )
    logged = run.frame[list(NEEDED)].dropna()
    if len(logged) < 2 * BLOCKS:
        raise ValueError(
            f"run {run.name} has {len(logged)} steps with a log-ratio; at least {2 * BLOCKS} are needed"
        )
    mean, sds, kl, length = logged.to_numpy(dtype=float).T
    variance = float((sds**2).mean())
    from_kl = 2 * kl * length
    sd = math.sqrt(variance)
    ratio = run.metric("ratio_mean")
    entropy = run.metric("entropy").reindex(logged.index)
    return LogRatio(
        steps=len(logged),
        mean=float(mean.mean()),
        mean_error=block_error(mean),
        sd=sd,
        mean_if_ratio=-variance / 2,
        token_sd=float((sds / np.sqrt(length)).mean()),
        explained=float(from_kl.mean()) / variance,
        explained_error=block_error(from_kl) / variance,
        sd_if_ratio=math.sqrt(max(float(from_kl.mean()), 0.0)),
        ratio_mean_median=float(ratio.median()) if len(ratio) else math.nan,
        ratio_mean_least=float(ratio.min()) if len(ratio) else math.nan,
        ratio_mean_if_noise=math.exp(variance / 2 + float(mean.mean())),
        ratio_largest=float(run.metric("ratio_max").max()) if len(run.metric("ratio_max")) else math.nan,
        outside_clip=outside_clip(run, float(mean.mean()), sd),
        sd_entropy_correlation=float(logged.log_ratio_sd.corr(entropy))
        if entropy.notna().all()
        else math.nan,
    )


def outside_clip(run: Run, mean: float, sd: float) -> float:
    """P(w' < 1 - eps_low or w' > 1 + eps_high) for normal log w'; nan where the run printed no such clip."""
    low, high = run.settings.get("clip_ratio_low"), run.settings.get("clip_ratio_high")
    if low is None or high is None or low >= 1:
        return math.nan
    below, up_to = stats.norm(mean, sd).cdf(np.log([1 - low, 1 + high]))
    return float(1 - up_to + below)


DIAGNOSTICS = tuple(field.name for field in fields(LogRatio))
