"""Rows about token weights: what a loss does to rows that are changed in a way that should not matter."""

import dataclasses
import itertools

import torch
from torch import Tensor

from ticgrpo_theory.check import probes
from ticgrpo_theory.check.probes import SMALL_DRIFT, few, gap, written
from ticgrpo_theory.check.row import Row
from ticgrpo_theory.check.subject import Subject
from ticgrpo_theory.estimators.batch import Batch


def mask(subject: Subject, tolerance: float) -> Row:
    """Numbers at masked positions change nothing, and get no weight."""
    row = Row("mask", "numbers at masked positions have no weight and change nothing", "the same rows")
    usual = probes.update(subject.prompts, SMALL_DRIFT)
    worst, witness = 0.0, ""
    for batch in (few(subject.prompts, (1, 2)), usual, holed(usual)):
        found, said = seen_behind(subject, batch)
        worst = max(worst, found)
        witness = witness or (said if found > tolerance else "")
    if worst <= tolerance:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row,
        holds=False,
        number=worst,
        witness=witness,
        detail=f"what is masked has {100 * worst:.3g} % of the largest weight, or changes others",
        cause="a sum or a mean over positions that the mask leaves out",
        cure="multiply every token by the mask before the sum, and count only its tokens in a mean",
    )


def holed(batch: Batch) -> Batch:
    """The second token of the longest response masked: what a tool returned, inside the response."""
    keep = batch.mask.clone()
    keep[int(batch.length.argmax()), 1] = False
    return dataclasses.replace(batch, mask=keep)


def seen_behind(subject: Subject, batch: Batch) -> tuple[float, str]:
    """(largest share of a weight that masked numbers have or move, the case in words)."""
    wide = widened(batch, 1, left=False)
    B, T = wide.mask.shape
    i, t = torch.arange(B, dtype=torch.float64)[:, None], torch.arange(T, dtype=torch.float64)
    other = -(1 + (5 * i + 3 * t) % 24) / 8

    def filled(x: Tensor, name: str) -> Tensor:
        return x if name == "mask" else x.where(wide.mask, other if name == "logp" else other.flip(1))

    c, moved = subject.weights(wide), subject.weights(probes.changed(wide, filled))
    size = max(float(c.abs().max()), float(moved.abs().max()), 1e-300)
    behind = max(float(x.where(~wide.mask, torch.zeros_like(x)).abs().max()) for x in (c, moved)) / size
    inside = gap(c.where(wide.mask, torch.zeros_like(c)), moved.where(wide.mask, torch.zeros_like(c)))
    lengths = ", ".join(map(str, wide.length.tolist()))
    said = f"responses of {lengths} tokens in {T} columns, rewards {wide.reward.tolist()}: "
    said += f"weights {written(moved)}"
    return max(behind, inside), said


def widened(batch: Batch, columns: int, *, left: bool) -> Batch:
    """The same rows with more padding."""

    def wider(x: Tensor, name: str) -> Tensor:
        fill = torch.zeros if name == "mask" else torch.ones
        more = (
            (-0.7 * fill(len(x), columns)).to(x.dtype)
            if name != "mask"
            else torch.zeros(len(x), columns).bool()
        )
        return torch.cat([more, x] if left else [x, more], dim=1)

    return probes.changed(batch, wider)


def padding(subject: Subject, tolerance: float) -> Row:
    """More columns, on either side, change no weight."""
    row = Row(
        "padding", "one to three more columns of padding, left or right, change nothing", "the same rows"
    )
    worst, witness = 0.0, ""
    for batch in (few(subject.prompts, (1, 1)), probes.update(subject.prompts, SMALL_DRIFT)):
        T = batch.mask.shape[1]
        c = subject.weights(batch)
        for left, columns in itertools.product((False, True), (1, 2, 3)):
            wide = subject.weights(widened(batch, columns, left=left))
            inside = wide[:, columns:] if left else wide[:, :T]
            off = gap(c.where(batch.mask, 0.0 * c), inside.where(batch.mask, 0.0 * c))
            worst = max(worst, off)
            if off > tolerance and not witness:
                side = "left" if left else "right"
                witness = (
                    f"lengths {batch.length.tolist()}: weights {written(c)}; "
                    f"with {columns} more on the {side} {written(inside)}"
                )
    if worst <= tolerance:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row,
        holds=False,
        number=worst,
        witness=witness,
        detail=f"weights change by {100 * worst:.3g} % with the width of the padded tensor",
        cause="a mean over padded positions, or a division by the width of the tensor",
        cure="divide by the tokens of the mask, or by a constant length",
    )


def order(subject: Subject, tolerance: float) -> Row:
    """Rows in another order have the same weights, in that order."""
    row = Row("order", "responses in another order keep their weights", "the same rows")
    worst, witness = 0.0, ""
    G = 4
    for batch in (few(subject.prompts, (1, 1)), probes.update(subject.prompts, SMALL_DRIFT)):
        G = len(batch.reward) // (subject.prompts or 1)
        c = subject.weights(batch)
        for turn in itertools.islice(itertools.permutations(range(G)), 1, 24):
            # Within each group, and groups in turn.
            P = subject.prompts or 1
            every = [p * G + i for p in [*range(1, P), 0] for i in turn]
            moved = subject.weights(probes.reordered(batch, torch.tensor(every)))
            off = gap(c[every], moved)
            worst = max(worst, off)
            if off > tolerance and not witness:
                witness = (
                    f"rewards {batch.reward.tolist()}: weights {written(c)}; in the order {every} "
                    f"{written(moved)}"
                )
    if worst <= tolerance:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row,
        holds=False,
        number=worst,
        witness=witness,
        detail=f"weights change by {100 * worst:.3g} % with the place of a response in its group",
        cause="a baseline, a normaliser or a slice that reads rows by their place",
        cure="use statistics of the whole group, or of the other responses",
    )
