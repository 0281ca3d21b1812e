"""The objectives of the catalogue's other families as papers and released code print them, on whole updates.

Nothing of the package is used: rows [B, T] of P groups of G, log-probabilities with a graph, autograd.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """An update as a trainer holds it."""

    logp: Tensor
    old: Tensor
    sampler: Tensor
    reward: Tensor
    """[P, G]."""
    mask: Tensor
    limit: int

    @property
    def ratio(self) -> Tensor:
        return (self.logp - self.old).exp()

    @property
    def mean_ratio(self) -> Tensor:
        """exp of the mean log-ratio of every row, [B, 1]."""
        return (((self.logp - self.old) * self.mask).sum(1) / self.mask.sum(1)).exp()[:, None]


def standardised(x: Rows, delta: float, unbiased: bool, batch: bool = False) -> Tensor:
    """[B, 1]."""
    mean = x.reward.mean(dim=1, keepdim=True)
    std = x.reward.std(unbiased=unbiased) if batch else x.reward.std(dim=1, keepdim=True, unbiased=unbiased)
    return ((x.reward - mean) / (std + delta)).reshape(-1, 1)


def centred(x: Rows) -> Tensor:
    return (x.reward - x.reward.mean(dim=1, keepdim=True)).reshape(-1, 1)


def ppo(ratio: Tensor, A: Tensor) -> Tensor:
    return torch.min(ratio * A, ratio.clamp(0.8, 1.2) * A)


def sequence_mean(x: Rows, token: Tensor) -> Tensor:
    return ((token * x.mask).sum(1) / x.mask.sum(1)).mean()


def sequence_sum(x: Rows, token: Tensor) -> Tensor:
    return (token * x.mask).sum(1).mean()


def by_limit(x: Rows, token: Tensor) -> Tensor:
    return (token * x.mask).sum() / (len(token) * x.limit)


def token_mean(x: Rows, token: Tensor) -> Tensor:
    return (token * x.mask).sum() / x.mask.sum()


def pairings(rows: list[int]) -> Iterator[list[tuple[int, int]]]:
    """Every way to cut rows into pairs."""
    if not rows:
        yield []
        return
    first, rest = rows[0], rows[1:]
    for other in rest:
        for others in pairings([r for r in rest if r != other]):
            yield [(first, other), *others]


def shuffled_pairs(x: Rows, token: Tensor) -> Tensor:
    """The mean over micro-batches of two rows, each divided by its tokens, over every shuffle."""
    found = []
    for cut in pairings(list(range(len(token)))):
        parts = [(token * x.mask)[list(pair)].sum() / x.mask[list(pair)].sum() for pair in cut]
        found.append(torch.stack(parts).mean())
    return torch.stack(found).mean()


Aggregate = Callable[[Rows, Tensor], Tensor]


def trl(x: Rows, over: Aggregate, batch: bool = False, correction: Callable[[Rows], Tensor] | None = None):
    """A PPO token loss with TRL's advantages."""
    token = ppo(x.ratio, standardised(x, 1e-4, True, batch))
    return over(x, token if correction is None else token * correction(x))


def trl_cispo(x: Rows) -> Tensor:
    held = x.ratio.clamp(max=5.0).detach()
    return token_mean(x, held * standardised(x, 1e-4, True) * x.logp)


def from_sampler(level: str, low: float, high: float, masks: bool, x: Rows) -> Tensor:
    """pi_old / mu of tokens or of rows, masked or truncated."""
    d = (x.old - x.sampler) * x.mask
    W = (d if level == "token" else d.sum(1, keepdim=True)).exp()
    return W * ((W >= low) & (W <= high)) if masks else W.clamp(low, high)


def corrected_grpo(x: Rows, correction: Callable[[Rows], Tensor]) -> Tensor:
    return sequence_mean(x, ppo(x.ratio, standardised(x, 1e-6, False)) * correction(x))


def verl_vanilla(x: Rows, over: Aggregate, A: Callable[[Rows], Tensor]) -> Tensor:
    """PPO with a dual clip at 3 for A < 0, log-ratios clamped at 20."""
    ratio, a = (x.logp - x.old).clamp(-20, 20).exp(), A(x)
    loss = torch.max(-a * ratio, -a * ratio.clamp(0.8, 1.2))
    return -over(x, torch.where(a < 0, torch.min(-3 * a, loss), loss))


def verl_advantage(x: Rows) -> Tensor:
    return standardised(x, 1e-6, True)


def rloo_advantage(x: Rows) -> Tensor:
    n = x.reward.shape[1]
    mean = x.reward.mean(dim=1, keepdim=True)
    return (x.reward * n / (n - 1) - mean * n / (n - 1)).reshape(-1, 1)


def whitened_advantage(x: Rows) -> Tensor:
    returns, mask = x.reward.reshape(-1, 1) * x.mask, x.mask.double()
    mean = (returns * mask).sum() / mask.sum()
    variance = ((returns - mean) ** 2 * mask).sum() / mask.sum() * (mask.sum() / (mask.sum() - 1))
    return (returns - mean) * variance.rsqrt()


def opo_advantage(x: Rows) -> Tensor:
    length = x.mask.sum(1).double().reshape(x.reward.shape)
    baseline = (length * x.reward).sum(1, keepdim=True) / length.sum(1, keepdim=True)
    return (x.reward - baseline).reshape(-1, 1)


def verl_gspo(x: Rows) -> Tensor:
    log = (x.logp - x.logp.detach() + x.mean_ratio.detach().log()).clamp(max=10.0)
    return sequence_mean(x, ppo(log.exp(), verl_advantage(x)))


def verl_cispo(x: Rows) -> Tensor:
    return token_mean(x, x.ratio.clamp(0.8, 1.2).detach() * verl_advantage(x) * x.logp)


def sapo(x: Rows) -> Tensor:
    A = standardised(x, 1e-6, False)
    tau = 1.0 + 0.05 * (A <= 0).double()
    return sequence_mean(x, torch.sigmoid(tau * (x.ratio - 1)) * 4 / tau * A)


def vespo(x: Rows) -> Tensor:
    A = standardised(x, 1e-6, False)
    w = ((x.logp - x.old) * x.mask).sum(1, keepdim=True).clamp(math.log(1e-8), 20.0).exp()
    k, rate = torch.where(A >= 0, 2.0, 3.0), torch.where(A >= 0, 3.0, 2.0)
    phi = w**k * (rate * (1 - w)).exp()
    return token_mean(x, phi.detach() * A * x.logp)


def luspo(x: Rows) -> Tensor:
    row = ppo(x.mean_ratio, standardised(x, 1e-6, False))
    return sequence_sum(x, row.expand_as(x.logp))


def dppo(x: Rows, kind: str, delta: float) -> Tensor:
    A, p, q = centred(x), x.logp.exp(), x.old.exp()
    if kind == "tv":
        positive, negative = p - q <= delta, p - q >= -delta
    else:
        kl = q * (x.old - x.logp) + (1 - q) * torch.log((1 - q + 1e-8) / (1 - p + 1e-8))
        positive, negative = (kl <= delta) | (p <= q), (kl <= delta) | (p >= q)
    valid = torch.where(A > 0, positive, negative).double()
    return by_limit(x, x.ratio.clamp(max=20.0).detach() * valid.detach() * A * x.logp)


def aspo(x: Rows) -> Tensor:
    """Held weights times logp where a dual clip acts, else a ratio whose value is its own inverse."""
    A, ratio = standardised(x, 1e-6, True), x.ratio
    up, down = ratio.clamp(max=1.2), ratio.clamp(min=0.8)
    flipped = A * (up / up.detach()) / up.detach()
    positive = torch.where(1 / up.detach() > 3.0, A * 3.0 * x.logp, flipped)
    negative = torch.where(down > 3.0, A * 3.0 * x.logp, A * down)
    return token_mean(x, torch.where(A < 0, negative, positive))


def ctpo(x: Rows) -> Tensor:
    A, place = standardised(x, 1e-6, True), torch.arange(1, x.mask.shape[1] + 1).sqrt()
    log = ((x.logp - x.old) * x.mask).cumsum(1).detach() + x.logp - x.logp.detach()
    clipped = torch.minimum(torch.maximum(log, -0.025 * place), 0.05 * place)
    both = torch.min(log.exp() * A, clipped.exp() * A)
    return sequence_mean(x, torch.where(A < 0, torch.max(both, (0.05 * place).exp() * A), both))


def minpro(x: Rows) -> Tensor:
    d, A = (x.logp - x.old).detach(), standardised(x, 1e-6, False)
    columns = [d[:, 0]] + [d[:, t] + d[:, :t].min(dim=1).values for t in range(1, d.shape[1])]
    return token_mean(x, torch.stack(columns, dim=1).exp().clamp(0.8, 1.28) * A * x.logp)


def taper(x: Rows, A: Tensor, ratio: Tensor) -> Tensor:
    return torch.where(A >= 0, 1.0, ratio.clamp(0.0, 1.0)).detach() * A * x.logp


def topr(x: Rows) -> Tensor:
    ratio = ((x.logp - x.old) * x.mask).sum(1, keepdim=True).exp()
    return sequence_sum(x, taper(x, x.reward.reshape(-1, 1), ratio))


def verl_topr(x: Rows) -> Tensor:
    return sequence_mean(x, taper(x, verl_advantage(x), x.mean_ratio))


def opsm(x: Rows) -> Tensor:
    A = standardised(x, 1e-4, True)
    kl = ((x.sampler - x.logp.detach()) * x.mask).sum(1, keepdim=True) / x.mask.sum(1, keepdim=True)
    return token_mean(x, ppo(x.ratio, A) * ((A >= 0) | (kl <= 0.5)))


def maxrl(x: Rows) -> Tensor:
    mean = x.reward.mean(dim=1, keepdim=True)
    A = torch.where(mean > 0, (x.reward - mean) / mean.clamp(min=1e-300), 0.0).reshape(-1, 1)
    return sequence_sum(x, A * x.logp)


def delta_l(x: Rows) -> Tensor:
    share = x.mask.sum(1, keepdim=True).double() ** -0.75
    return (share / share.sum() * ppo(x.ratio, centred(x)) * x.mask).sum()


def dro(x: Rows) -> Tensor:
    return sequence_sum(x, x.logp * centred(x) - 0.5 * 0.05 * (x.logp - x.old) ** 2)


def whitened_baseline(x: Rows) -> Tensor:
    rows = centred(x) * x.mask
    values = rows[x.mask]
    return (rows - values.mean()) / values.std(unbiased=True) * x.mask


def gpg(x: Rows) -> Tensor:
    alpha = x.reward.numel() / x.reward.count_nonzero().clamp(min=1).double()
    return token_mean(x, x.logp * alpha * centred(x))


def preset(x: Rows, level: str, low: float, high: float, weight: str | None) -> Tensor:
    """verl's default loss on the responses that are kept, which alone are in the mean."""
    d = (x.old - x.sampler) * x.mask
    pooled = d.sum(1, keepdim=True) / (1 if level == "sum" else x.mask.sum(1, keepdim=True))
    keep = ((-pooled).exp() >= low) & ((-pooled).exp() <= high)
    kept = Rows(x.logp, x.old, x.sampler, x.reward, x.mask & keep, x.limit)
    W = {None: torch.ones_like(d), "token": d.exp(), "sequence": d.sum(1, keepdim=True).exp()}[weight]
    if not bool(kept.mask.any()):
        return (0.0 * x.logp).sum()

    def over(_: Rows, token: Tensor) -> Tensor:
        return token_mean(kept, token * W.clamp(max=2.0))

    return verl_vanilla(x, over, verl_advantage)


def sampled(level: str, low: float, high: float, masks: bool) -> Callable[[Rows], Tensor]:
    return partial(from_sampler, level, low, high, masks)


INF = math.inf
LITERAL: dict[str, Callable[[Rows], Tensor]] = {
    "sapo": sapo,
    "vespo": vespo,
    "luspo": luspo,
    "dppo_tv": partial(dppo, kind="tv", delta=0.15),
    "dppo_kl": partial(dppo, kind="kl", delta=0.05),
    "decoupled_ppo": partial(corrected_grpo, correction=sampled("token", 0.0, INF, False)),
    "tis": partial(corrected_grpo, correction=sampled("token", 0.0, 2.0, False)),
    "seq_tis": partial(corrected_grpo, correction=sampled("sequence", 0.0, 2.0, False)),
    "icepop": partial(corrected_grpo, correction=sampled("token", 0.5, 5.0, True)),
    "mis": partial(corrected_grpo, correction=sampled("sequence", 0.0, 3.0, True)),
    "trl_grpo": partial(trl, over=sequence_mean),
    "trl_bnpo": partial(trl, over=shuffled_pairs),
    "trl_dr_grpo": partial(trl, over=by_limit),
    "trl_dapo": partial(trl, over=token_mean),
    "trl_cispo": trl_cispo,
    "trl_batch_std": partial(trl, over=token_mean, batch=True),
    "trl_sequence_mask": partial(trl, over=token_mean, correction=sampled("sequence", 0.0, 3.0, True)),
    "trl_sequence_truncate": partial(trl, over=token_mean, correction=sampled("sequence", 0.0, 3.0, False)),
    "trl_token_mask": partial(trl, over=token_mean, correction=sampled("token", 0.0, 3.0, True)),
    "trl_token_truncate": partial(trl, over=token_mean, correction=sampled("token", 0.0, 3.0, False)),
    "verl_grpo": partial(verl_vanilla, over=token_mean, A=verl_advantage),
    "verl_seq_mean_token_sum": partial(verl_vanilla, over=sequence_sum, A=verl_advantage),
    "verl_seq_mean_token_mean": partial(verl_vanilla, over=sequence_mean, A=verl_advantage),
    "verl_dr_grpo": partial(verl_vanilla, over=by_limit, A=centred),
    "verl_rloo": partial(verl_vanilla, over=token_mean, A=rloo_advantage),
    "verl_reinforce_pp": partial(verl_vanilla, over=token_mean, A=whitened_advantage),
    "verl_opo": partial(verl_vanilla, over=token_mean, A=opo_advantage),
    "verl_gspo": verl_gspo,
    "verl_cispo": verl_cispo,
    "aspo": aspo,
    "ctpo": ctpo,
    "minpro": minpro,
    "topr": topr,
    "opsm": opsm,
    "maxrl": maxrl,
    "delta_l": delta_l,
    "dro": dro,
    "verl_reinforce_pp_baseline": partial(verl_vanilla, over=token_mean, A=whitened_baseline),
    "verl_gpg": gpg,
    "verl_topr": verl_topr,
    "verl_seq_is_rs": partial(preset, level="sum", low=0.5, high=2.0, weight="sequence"),
    "verl_geo_rs": partial(preset, level="mean", low=0.999, high=1.001, weight=None),
    "verl_geo_rs_seq_tis": partial(preset, level="mean", low=0.999, high=1.001, weight="sequence"),
    "verl_geo_rs_token_tis": partial(preset, level="mean", low=0.999, high=1.001, weight="token"),
}
