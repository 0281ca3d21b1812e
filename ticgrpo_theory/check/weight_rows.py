"""Rows about token weights: what a loss does to rows that are changed in a way that should not matter."""

import dataclasses
import itertools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.check import probes
from ticgrpo_theory.check.probes import gap
from ticgrpo_theory.check.report import Row
from ticgrpo_theory.check.subject import Subject
from ticgrpo_theory.estimators.batch import Batch

SMALL_DRIFT = 1 / 16
"""Log-ratios of the rows that are compared: inside every usual clip."""


def written(c: Tensor) -> str:
    """Weights of a few tokens."""
    return "; ".join(" ".join(f"{x:.4g}" for x in row) for row in c.tolist())


def few(P: int | None, lengths: tuple[int, ...]) -> Batch:
    """The smallest rows of a witness: two responses, or two of each of P groups."""
    rewards = (0.0, 1.0)
    return probes.group(lengths * (P or 1), rewards * (P or 1), group_size=2 if P else None)


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
        row, holds=False, number=worst, witness=witness,
        detail=f"log-probabilities behind the mask have {100 * worst:.3g} % of the largest weight, or change it",
        cause="a sum or a mean over positions that the mask leaves out",
        cure="multiply every token by the mask before the sum, and count only its tokens in a mean",
    )  # fmt: skip


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
    said = f"responses of {lengths} tokens in {T} columns, rewards {wide.reward.tolist()}: weights {written(moved)}"
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
                witness = (f"rewards {batch.reward.tolist()}, lengths {batch.length.tolist()}: weights {written(c)}; "
                           f"with {columns} more on the {side} {written(inside)}")  # fmt: skip
    if worst <= tolerance:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row, holds=False, number=worst, witness=witness,
        detail=f"weights change by {100 * worst:.3g} % with the width of the padded tensor",
        cause="a mean over padded positions, or a division by the width of the tensor",
        cure="divide by the tokens of the mask, or by a constant length",
    )  # fmt: skip


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
                witness = (f"rewards {batch.reward.tolist()}: weights {written(c)}; in the order {every} "
                           f"{written(moved)}")  # fmt: skip
    if worst <= tolerance:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row, holds=False, number=worst, witness=witness,
        detail=f"weights change by {100 * worst:.3g} % with the place of a response in its group",
        cause="a baseline, a normaliser or a slice that reads rows by their place",
        cure="use statistics of the whole group, or of the other responses",
    )  # fmt: skip


def microbatch(subject: Subject, tolerance: float) -> Row:
    """Cutting a group into pieces changes no row's weights."""
    row = Row("microbatch", "a row's weights do not depend on which rows share its piece", "other pieces")
    worst, witness = (cut if subject.can_be_cut else lengths_moved)(subject, tolerance)
    if worst <= tolerance:
        said = "" if subject.can_be_cut else "not cut: lengths were moved between its rows"
        return dataclasses.replace(row, holds=True, how="exact", number=worst, detail=said)
    return dataclasses.replace(
        row, holds=False, number=worst, witness=witness,
        detail=f"a row's weights change by {100 * worst:.3g} % with the rows that share its piece",
        cause="a normaliser of the piece, such as its number of tokens",
        cure="divide by the count of the whole update (num_items_in_batch, global_batch_info), or by a constant",
    )  # fmt: skip


def cut(subject: Subject, tolerance: float) -> tuple[float, str]:
    """(largest change, case) over pieces of one and two rows, advantages of the whole group held."""
    batch, G = probes.group(drift=SMALL_DRIFT), 4
    A = subject.estimator.advantages(batch)  # type: ignore[union-attr]
    tokens = batch.mask.sum()

    def piece(rows: tuple[int, ...]) -> Float[Tensor, "G T"]:
        index = torch.tensor(rows)
        return subject.weights_given(probes.reordered(batch, index), A[index], tokens)

    pairs = {rows: piece(rows) for rows in itertools.permutations(range(G), 2)}
    worst, witness = 0.0, ""
    for i in range(G):
        mine = {rows: c[rows.index(i)] for rows, c in pairs.items() if i in rows}
        (first, c), *others = mine.items()
        for rows, moved in others:
            off = gap(c, moved)
            if off > max(worst, tolerance):
                n = [int(batch.length[j]) for j in (i, *(set(first) - {i}), *(set(rows) - {i}))]
                witness = (f"a row of {n[0]} tokens, A = {float(A[i].reshape(-1)[0]):.4g}: weight {c[0]:.4g} beside a row of "
                           f"{n[1]} tokens, {moved[0]:.4g} beside one of {n[2]}")  # fmt: skip
            worst = max(worst, off)
    alone = torch.cat([piece((i,)) for i in range(G)])
    beside = torch.stack([next(c[rows.index(i)] for rows, c in pairs.items() if i in rows) for i in range(G)])
    size = float((beside * beside).sum())
    factor = float((alone * beside).sum()) / size if size > 0 else 1.0
    off = gap(alone, factor * beside)
    if off > max(worst, tolerance):
        witness = f"rows alone have weights {written(alone)}, in pairs {written(beside)}: not one factor"
    return max(worst, off), witness


def lengths_moved(subject: Subject, tolerance: float) -> tuple[float, str]:
    """(largest change, case) of one row's weights when the lengths of rows of equal reward change places."""
    worst, witness = 0.0, ""
    P = subject.prompts or 1
    for anchor in (0, 3):
        found = []
        for moved in itertools.permutations((1, 3, 5)):
            lengths, rewards = list(moved), [0.0] * 3
            lengths.insert(anchor, 2)
            rewards.insert(anchor, 1.0)
            batch = probes.group(lengths * P, rewards * P, group_size=4 if subject.prompts else None)
            found.append((lengths, subject.weights(batch)[anchor, :2]))
        for lengths, c in found[1:]:
            off = gap(found[0][1], c)
            if off > max(worst, tolerance):
                witness = (f"rewards {rewards}: row {anchor} has weights {written(found[0][1][None])} where lengths are "
                           f"{found[0][0]}, and {written(c[None])} where they are {lengths}")  # fmt: skip
            worst = max(worst, off)
    return worst, witness


def equal_rewards(subject: Subject, tolerance: float) -> Row:
    """A group whose rewards are all equal moves nothing."""
    row = Row("equal_rewards", "a group of equal rewards has no gradient", "0")
    usual = float(subject.weights(probes.update(subject.prompts)).abs().max())
    worst, witness = 0.0, ""
    for reward in (0.0, 1.0, 0.1):
        batch = probes.update(subject.prompts)
        equal = dataclasses.replace(batch, reward=torch.full_like(batch.reward, reward))
        try:
            largest = float(subject.weights(equal).abs().max())
        except ValueError as error:
            return dataclasses.replace(
                row, holds=False, detail=str(error), witness=f"all rewards {reward:g}: {error}",
                cause="a division by the spread of equal rewards", cure="add an epsilon to it, or drop the group",
            )  # fmt: skip
        share = largest / usual if usual > 0 else float(largest > 0)
        if share > max(worst, tolerance):
            witness = (
                f"all rewards {reward:g}: the largest weight is {largest:.4g}, {usual:.4g} at unequal rewards"
            )
        worst = max(worst, share)
    if worst <= tolerance:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row, holds=False, number=worst, witness=witness,
        detail=f"a group of equal rewards still has {100 * worst:.3g} % of the largest weight",
        cause="rewards without a baseline, or a term that does not read the advantage",
        cure="subtract the mean of the group (or of its other responses) from the rewards",
    )  # fmt: skip


def finite(subject: Subject, tolerance: float) -> Row:
    """Value and gradient are finite where probabilities differ by factors up to e^20."""
    row = Row("finite", "value and gradient are finite at log-ratios up to +-20", "finite numbers")
    P = subject.prompts
    for x in (0.0, 1.0, -1.0, 5.0, -5.0, 20.0, -20.0):
        try:
            subject.weights(far(P, x))
        except ValueError as error:
            return dataclasses.replace(
                row, holds=False, number=x, detail=f"not finite at a log-ratio of {x:g}: {error}",
                witness=f"one token with logp - logp_old = {x:g}, all others 0",
                cause="an exponential, a logarithm or a division that is not bounded",
                cure="clamp the log-ratio before the exponential; add an epsilon to what is divided by",
            )  # fmt: skip
    beyond = [
        x for x in (100.0, -100.0, 1000.0, -1000.0) if not is_finite(lambda x=x: subject.weights(far(P, x)))
    ]
    note = f"not finite, or refused, at log-ratios of {', '.join(f'{x:g}' for x in beyond)}" if beyond else ""
    return dataclasses.replace(row, holds=True, how="exact", detail=note)


def far(P: int | None, x: float) -> Batch:
    """The usual rows on policy, but for the first token of each, whose log-ratio is x."""
    batch = probes.update(P)
    logp, logp_old = batch.logp.clone(), batch.logp_old.clone()
    logp[:, 0], logp_old[:, 0] = min(x, 0.0) - 0.5, min(-x, 0.0) - 0.5
    return dataclasses.replace(batch, logp=logp, logp_old=logp_old)


def is_finite(ask: Callable[[], Tensor]) -> bool:
    """Whether an answer comes."""
    try:
        ask()
    except ValueError:
        return False
    return True


def repeatable(subject: Subject, tolerance: float) -> Row:
    """The same rows get the same weights, again and after others."""
    row = Row("repeatable", "the same rows get the same weights every time", "the first answer")
    batch = probes.update(subject.prompts, SMALL_DRIFT)
    first = subject.weights(batch)
    worst = gap(first, subject.weights(batch))
    subject.weights(probes.update(subject.prompts))
    for _ in range(3):
        worst = max(worst, gap(first, subject.weights(batch)))
    # In lower precision as well: the same operations in the same order round alike.
    if worst == 0.0 or worst <= 1e-12:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row, holds=False, number=worst,
        detail=f"the same rows get weights that differ by {100 * worst:.3g} % from one call to the next",
        witness=f"rewards {batch.reward.tolist()}, called twice",
        cause="dropout or other randomness inside, or a state that is kept between calls",
        cure="switch randomness off, and keep no state",
    )  # fmt: skip


def ignored(subject: Subject) -> list[str]:
    """What of its input a loss does not read: changing it changes no weight."""
    batch = probes.update(subject.prompts, SMALL_DRIFT)
    c, found = subject.weights(batch), []
    old = batch.logp_old.where(
        ~batch.mask, batch.logp_old - 1 / 32 * (1 + torch.arange(batch.mask.shape[1]) % 3)
    )
    reward = batch.reward.flip(0) ** 2 + batch.reward
    for name, other in (
        ("logp_old", dataclasses.replace(batch, logp_old=old)),
        ("advantages" if subject.form == "loss" else "rewards", dataclasses.replace(batch, reward=reward)),
    ):
        if gap(c, subject.weights(other)) == 0.0:
            found.append(name)
    return found
