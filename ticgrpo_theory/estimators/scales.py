"""Axis `scale`: the factor in front of each response's sum over tokens, per group or over a whole update.

scale(length, total_length, group_size, horizon) is elementwise: `length` [*b, G] is |s_i|, `total_length`
(broadcastable to it) the sum of all lengths of the group, `horizon` the response limit of the world or the
sampler. Results are float64 on the device of `length`. Those of a group are averaged over the P groups of an
update. An `UpdateScale` has `over(length)` besides, from the lengths [*b, P, G] of the update to the factor
of every row; called like the others it takes the group for the whole update, P = 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ticgrpo_theory.estimators.properties import Reads, declared_call, reads
from ticgrpo_theory.inputs.numbers import shown

Scale = Callable[[Tensor, Tensor, int, int | None], Tensor]


@reads(Reads.OWN_RESPONSE)
def sequence_mean(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / (G |s_i|).  Source: arXiv:2508.02833 v2, Eq. 5."""
    return 1.0 / (group_size * length.double())


@reads(Reads.REWARDS_AND_LENGTHS)
def token_mean(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / sum_j |s_j|, the same for every response of a group.  Source: arXiv:2503.14476 v2 (DAPO), Eq. 8."""
    return (1.0 / total_length.double()).expand_as(length)


@reads(Reads.NOTHING)
def sequence_sum(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / G.  Source: arXiv:2508.02833 v2, Eq. 9, differentiated literally."""
    return torch.full_like(length, 1.0 / group_size, dtype=torch.float64)


@reads(Reads.NOTHING)
def constant(
    length: Shaped[Tensor, "..."], total_length: Shaped[Tensor, "..."], group_size: int, horizon: int | None
) -> Float[Tensor, "..."]:
    """1 / (G horizon).  Source: arXiv:2503.20783 v1 (Dr. GRPO), Appendix A."""
    if horizon is None or horizon < 1:
        raise ValueError(
            f"horizon = {horizon}: the scale `constant` divides by the response limit, at least 1; "
            f"give Batch(..., horizon=limit)"
        )
    return torch.full_like(length, 1.0 / (group_size * horizon), dtype=torch.float64)


@dataclass(frozen=True, repr=False)
class kept:
    """`scale` of what a correction keeps: lengths count the tokens whose phi is not 0, and nothing else.

    A scale that divides by the number of responses divides by the number of those with such a token, which
    is what rejection by a smaller response mask amounts to; a response without any has the scale 0. The plain
    scale counts masked tokens and responses like all others.
    """

    scale: Scale

    def __post_init__(self) -> None:
        if not callable(self.scale) or isinstance(self.scale, type | kept):
            raise ValueError(f"scale = {self.scale!r}: give a plain scale, such as kept(token_mean)")

    def __repr__(self) -> str:
        return f"kept({getattr(self.scale, '__name__', repr(self.scale))})"

    @reads(Reads.REWARDS_AND_LENGTHS)
    def __call__(self, length: Tensor, total_length: Tensor, group_size: int, horizon: int | None) -> Tensor:
        """The scale of responses [*b, G] that have `length` such tokens."""
        some = length > 0
        if pools_lengths(self.scale):
            found = self.scale(length.clamp(min=1), total_length.clamp(min=1), group_size, horizon)
            return found.where(some, 0.0)
        found = self.scale(length.clamp(min=1), total_length.clamp(min=1), 1, horizon)
        return (found / some.sum(dim=-1, keepdim=True).clamp(min=1)).where(some, 0.0)


class UpdateScale:
    """A factor that reads the lengths of all rows of an update; 0 tokens stand for a row that is left out."""

    def over(self, length: Float[Tensor, "*b P G"]) -> Float[Tensor, "*b P G"]:
        raise TypeError(f"{type(self).__name__} defines no factor over an update")


@dataclass(frozen=True, repr=False)
class _BatchTokenMean(UpdateScale):
    """1 / sum_{p,i} |s_{p,i}|, the same for every row of an update.

    The mean over groups of `token_mean` is another number: there every group counts alike, here every token.
    Source: arXiv:2503.14476 v2 (DAPO), Eq. 8 as trainers run it, on batches of many prompts.
    """

    def over(self, length: Float[Tensor, "*b P G"]) -> Float[Tensor, "*b P G"]:
        return (1.0 / length.double().sum(dim=(-2, -1), keepdim=True).clamp(min=1.0)).expand(length.shape)

    @reads(Reads.REWARDS_AND_LENGTHS)
    def __call__(
        self, length: Tensor, total_length: Tensor, group_size: int, horizon: int | None
    ) -> Float[Tensor, "..."]:
        """1 / total length, of an update of one group."""
        return token_mean(length, total_length, group_size, horizon)

    def __repr__(self) -> str:
        return "batch_token_mean"


batch_token_mean = _BatchTokenMean()
"""1 / sum_{p,i} |s_{p,i}| over all B rows of an update."""


@dataclass(frozen=True)
class micro_batch_token_mean(UpdateScale):
    """1 / (M tokens of the row's micro-batch), M = B / rows micro-batches of `rows` rows each, averaged.

    order="in_order": rows p G + i are cut as they stand; "shuffled": in a uniformly random order, as trainers
    shuffle, and the factor is its expectation over that order (second moments are those of an order that is
    drawn with the update); a permutation of 0..B-1: cut in that order.
    Raises ValueError for rows < 1, another order, and where B is no multiple of `rows`.
    Source: gradient accumulation over token means, as in trainers that divide by the tokens at hand.
    """

    rows: int
    order: str | tuple[int, ...] = "in_order"

    def __post_init__(self) -> None:
        if not isinstance(self.rows, int) or isinstance(self.rows, bool) or self.rows < 1:
            raise ValueError(f"rows = {shown(self.rows)}: a micro-batch has a whole number >= 1 of rows")
        if isinstance(self.order, Sequence) and not isinstance(self.order, str):
            object.__setattr__(self, "order", tuple(self.order))
            if sorted(self.order) != list(range(len(self.order))):
                raise ValueError(f"order = {shown(self.order)}: give each of the rows 0..B-1 once")
        elif self.order not in ("in_order", "shuffled"):
            raise ValueError(
                f"order = {shown(self.order)}: choose 'in_order', 'shuffled', or a permutation of the rows"
            )

    def check_rows(self, B: int) -> None:
        """Raise ValueError where B rows cannot be cut."""
        if B % self.rows != 0:
            raise ValueError(
                f"an update of B = {B} rows cannot be cut into micro-batches of {self.rows}: choose rows "
                f"that divide P * G, or other P and G"
            )
        if isinstance(self.order, tuple) and len(self.order) != B:
            raise ValueError(f"order lists {len(self.order)} rows; the update has B = P * G = {B}")

    def pieces(self, B: int) -> Tensor:
        """Micro-batch of every row [B], where the order is fixed. Raises ValueError as `check_rows`."""
        self.check_rows(B)
        order = torch.tensor(self.order) if isinstance(self.order, tuple) else torch.arange(B)
        piece = torch.empty(B, dtype=torch.int64)
        piece[order] = torch.arange(B) // self.rows
        return piece

    def counts(self, P: int, G: int) -> list[list[int]]:
        """Rows of every group in every micro-batch, where the order is fixed."""
        piece = self.pieces(P * G).reshape(P, G)
        return [torch.bincount(row, minlength=P * G // self.rows).tolist() for row in piece]

    def over(self, length: Float[Tensor, "*b P G"]) -> Float[Tensor, "*b P G"]:
        flat = length.double().flatten(-2)
        B = flat.shape[-1]
        self.check_rows(B)
        if self.order == "shuffled":
            return shuffled_means(flat, self.rows).reshape(length.shape)
        piece = self.pieces(B).to(flat.device)
        total = torch.zeros_like(flat[..., : B // self.rows]).index_add(-1, piece, flat)
        return (self.rows / B / total.clamp(min=1.0))[..., piece].reshape(length.shape)

    @reads(lambda self: Reads.REWARDS_AND_LENGTHS if self.order == "shuffled" else Reads.WHOLE_GROUP)
    def __call__(
        self, length: Tensor, total_length: Tensor, group_size: int, horizon: int | None
    ) -> Float[Tensor, "..."]:
        """1 / total length, where the only micro-batch is the group. Raises ValueError elsewhere."""
        if group_size != self.rows:
            raise ValueError(
                f"{self!r} cuts a group of {group_size} into micro-batches, which the total length does not "
                f"determine: give Estimator.update_weights an update"
            )
        return token_mean(length, total_length, group_size, horizon)


def shuffles(estimator: object) -> bool:
    """Whether its rows are put in a random order, which an update does not tell."""
    scale = getattr(estimator, "scale", None)
    return isinstance(scale, micro_batch_token_mean) and scale.order == "shuffled"


@dataclass(frozen=True)
class length_power(UpdateScale):
    """|s_i|^-alpha / sum_j |s_j|^-alpha over the rows of the update; alpha = 0 is 1/B.

    At alpha > 0 long responses weigh less, which costs bias where lengths go with rewards and saves variance
    where gradients grow with them. Raises ValueError for alpha < 0 or not finite.
    Source: arXiv:2509.07558 (Delta L normalisation), alpha 0.75 for mathematics, without its constant 1/M.
    """

    alpha: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha = {shown(self.alpha)}: give a finite power >= 0; 0 ignores lengths")

    def over(self, length: Float[Tensor, "*b P G"]) -> Float[Tensor, "*b P G"]:
        share = (length.double().clamp(min=1.0) ** -self.alpha).where(length > 0, 0.0)
        return share / share.sum(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)

    @reads(Reads.REWARDS_AND_LENGTHS)
    def __call__(
        self, length: Tensor, total_length: Tensor, group_size: int, horizon: int | None
    ) -> Float[Tensor, "..."]:
        """The same of an update of one group."""
        return self.over(length[..., None, :])[..., 0, :]


def shuffled_means(length: Float[Tensor, "*b B"], rows: int) -> Float[Tensor, "*b B"]:
    """rows/B E[1 / (l_i + tokens of rows - 1 others)], the others drawn without replacement.

    By the number of sets of k other rows with s tokens, for every k and s: whole numbers, exact up to 2^53.
    """
    B, found = length.shape[-1], torch.empty_like(length)
    longest = int(length.max())
    for i in range(B):
        sets = length.new_zeros(*length.shape[:-1], rows, (rows - 1) * longest + 1)
        sets[..., 0, 0] = 1.0
        sums = torch.arange(sets.shape[-1], device=length.device)
        for j in (j for j in range(B) if j != i):
            before = sums - length[..., j, None].long()
            moved = sets.gather(-1, before.clamp(min=0)[..., None, :].expand_as(sets))
            moved = moved.where((before >= 0)[..., None, :], 0.0)
            sets[..., 1:, :] += moved[..., :-1, :]
        total = (length[..., i, None] + sums).clamp(min=1.0)
        found[..., i] = (sets[..., -1, :] / total).sum(dim=-1) / math.comb(B - 1, rows - 1) * (rows / B)
    return found


def pools_lengths(scale: Scale) -> bool:
    """Whether the scale of one response may move with the lengths of the others: it declares no less."""
    found = declared_call(scale)
    return found is None or found > Reads.OWN_RESPONSE
