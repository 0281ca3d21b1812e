"""Groups of a few responses, written down rather than drawn, on which token weights are compared."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.one_group import BLANK

LENGTHS, REWARDS = (1, 2, 3, 5), (0.0, 1.0, 3.0, 0.5)
"""Of the group that most rows look at: unequal on purpose."""


def group(
    lengths: Sequence[int] = LENGTHS,
    rewards: Sequence[float] = REWARDS,
    *,
    drift: float = 0.0,
    width: int | None = None,
    group_size: int | None = None,
) -> Batch:
    """One call's rows: logp_old in quarters from -1/4 to -2, logp = logp_old +- drift, signs in turn.

    `group_size` makes it an update: rows p G .. p G + G - 1 belong to group p.
    """
    B, T = len(lengths), max(lengths) if width is None else width
    i, t = torch.arange(B, dtype=torch.float64)[:, None], torch.arange(T, dtype=torch.float64)
    mask = t < torch.tensor(lengths)[:, None]
    logp_old = -(1 + (3 * i + 5 * t) % 8) / 4
    sign = 1 - 2 * ((i + t) % 2)
    logp = (logp_old + drift * sign).clamp(max=-1 / 64)
    blank = torch.full_like(logp, BLANK)
    of = None if group_size is None else torch.arange(B) // group_size
    return Batch(
        logp=logp.where(mask, blank),
        logp_old=logp_old.where(mask, blank),
        logp_ref=logp_old.where(mask, blank),
        logp_sampler=logp_old.where(mask, blank),
        reward=torch.tensor(rewards, dtype=torch.float64),
        mask=mask,
        horizon=max(8, T),
        truncated=torch.zeros(B, dtype=torch.bool),
        group=of,
    )


def update(P: int | None, drift: float = 0.0) -> Batch:
    """The usual rows: one group, or P of them."""
    if P is None:
        return group(drift=drift)
    lengths = [LENGTHS[(i + 3 * p) % 4] for p in range(P) for i in range(4)]
    rewards = [REWARDS[(i + p) % 4] for p in range(P) for i in range(4)]
    return group(lengths, rewards, drift=drift, group_size=4)


TABLES = ("logp", "logp_old", "logp_ref", "logp_sampler")


def changed(batch: Batch, how: Callable[[Tensor, str], Tensor]) -> Batch:
    """The batch with every table [B, T] and its mask changed by `how(table, name)`."""
    tables = {name: how(x, name) for name in TABLES if (x := getattr(batch, name)) is not None}
    return dataclasses.replace(batch, **tables, mask=how(batch.mask, "mask"))


def reordered(batch: Batch, order: Tensor) -> Batch:
    """The rows of these numbers, in this order."""
    names = (*TABLES, "mask", "reward", "truncated", "group")
    rows = {name: x[order] for name in names if (x := getattr(batch, name)) is not None}
    return dataclasses.replace(batch, **rows)


def gap(x: Tensor, y: Tensor) -> float:
    """max |x - y| / max |x|, |y|; 0 where both are 0."""
    size = max(float(x.abs().max()), float(y.abs().max()))
    return float((x - y).abs().max()) / size if size > 0 else 0.0


def written(c: Tensor) -> str:
    """Weights of a few tokens."""
    return "; ".join(" ".join(f"{x:.4g}" for x in row) for row in c.tolist())


def few(P: int | None, lengths: tuple[int, ...]) -> Batch:
    """The smallest rows of a witness: two responses, or two of each of P groups."""
    rewards = (0.0, 1.0)
    return group(lengths * (P or 1), rewards * (P or 1), group_size=2 if P else None)


SMALL_DRIFT = 1 / 16
"""Log-ratios of the rows that are compared: inside every usual clip."""
