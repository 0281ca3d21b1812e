"""Rows about a group as a whole: pieces of it, equal rewards, extreme ratios, and the same answer twice."""

import dataclasses
import itertools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.check import probes
from ticgrpo_theory.check.probes import SMALL_DRIFT, gap, written
from ticgrpo_theory.check.row import Row
from ticgrpo_theory.check.subject import Subject
from ticgrpo_theory.estimators.batch import Batch


def microbatch(subject: Subject, tolerance: float) -> Row:
    """Cutting a group into pieces changes no row's weights."""
    row = Row("microbatch", "a row's weights do not depend on which rows share its piece", "other pieces")
    worst, witness = (cut if subject.can_be_cut else lengths_moved)(subject, tolerance)
    if worst <= tolerance:
        said = "" if subject.can_be_cut else "not cut: lengths were moved between its rows"
        return dataclasses.replace(row, holds=True, how="exact", number=worst, detail=said)
    return dataclasses.replace(
        row,
        holds=False,
        number=worst,
        witness=witness,
        detail=f"a row's weights change by {100 * worst:.3g} % with the rows that share its piece",
        cause="a normaliser of the piece, such as its number of tokens",
        cure="divide by tokens of the whole update (num_items_in_batch, global_batch_info) or a constant",
    )


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
                witness = (
                    f"a row of {n[0]} tokens, A = {float(A[i].reshape(-1)[0]):.4g}: weight {c[0]:.4g} beside "
                    f"a row of {n[1]} tokens, {moved[0]:.4g} beside one of {n[2]}"
                )
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
        rewards = [float(i == anchor) for i in range(4)]
        for moved in itertools.permutations((1, 3, 5)):
            lengths = [*moved[:anchor], 2, *moved[anchor:]]
            batch = probes.group(lengths * P, rewards * P, group_size=4 if subject.prompts else None)
            found.append((lengths, subject.weights(batch)[anchor, :2]))
        for lengths, c in found[1:]:
            off = gap(found[0][1], c)
            if off > max(worst, tolerance):
                witness = (
                    f"rewards {rewards}: row {anchor} has weights {written(found[0][1][None])} where "
                    f"lengths are {found[0][0]}, and {written(c[None])} where they are {lengths}"
                )
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
                row,
                holds=False,
                detail=str(error),
                witness=f"all rewards {reward:g}: {error}",
                cause="a division by the spread of equal rewards",
                cure="add an epsilon to it, or drop the group",
            )
        share = largest / usual if usual > 0 else float(largest > 0)
        if share > max(worst, tolerance):
            witness = (
                f"all rewards {reward:g}: the largest weight is {largest:.4g}, {usual:.4g} at unequal rewards"
            )
        worst = max(worst, share)
    if worst <= tolerance:
        return dataclasses.replace(row, holds=True, how="exact", number=worst)
    return dataclasses.replace(
        row,
        holds=False,
        number=worst,
        witness=witness,
        detail=f"a group of equal rewards still has {100 * worst:.3g} % of the largest weight",
        cause="rewards without a baseline, or a term that does not read the advantage",
        cure="subtract the mean of the group (or of its other responses) from the rewards",
    )


def finite(subject: Subject, tolerance: float) -> Row:
    """Value and gradient are finite where probabilities differ by factors up to e^20."""
    row = Row("finite", "value and gradient are finite at log-ratios up to +-20", "finite numbers")
    P = subject.prompts
    for x in (0.0, 1.0, -1.0, 5.0, -5.0, 20.0, -20.0):
        try:
            subject.weights(far(P, x))
        except ValueError as error:
            return dataclasses.replace(
                row,
                holds=False,
                number=x,
                detail=f"not finite at a log-ratio of {x:g}: {error}",
                witness=f"one token with logp - logp_old = {x:g}, all others 0",
                cause="an exponential, a logarithm or a division that is not bounded",
                cure="clamp the log-ratio before the exponential; add an epsilon to what is divided by",
            )
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
        row,
        holds=False,
        number=worst,
        detail=f"the same rows get weights that differ by {100 * worst:.3g} % from one call to the next",
        witness=f"rewards {batch.reward.tolist()}, called twice",
        cause="dropout or other randomness inside, or a state that is kept between calls",
        cure="switch randomness off, and keep no state",
    )


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
