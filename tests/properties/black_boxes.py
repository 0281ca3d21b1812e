"""A battery of random black boxes: losses and estimators from a grammar, on random worlds, with a fixed seed.

A box has two forms: the one that the package takes (`estimator`: objective(batch), from_loss, Estimator) and
the one that the oracle takes (`objective`, of one group). Parts are dealt from shuffled decks, so that every
part comes up equally often; the name of a box says all of them.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from tests.oracles.by_definition import Group
from tests.properties import black_box_axes as axes
from tests.properties import black_box_gates as gates
from tests.properties import black_box_parts as parts
from tests.properties import black_box_reductions as reductions
from tests.properties.black_box_worlds import (
    SIZES,
    Setting,
    distinct,
    draw,
    eight_responses,
    three_lengths,
    three_responses,
)
from ticgrpo_theory.estimators.losses import from_loss

DOUBLE, SINGLE = 1e-10, 1e-5
"""Largest error relative to the expectation, for losses in float64 and for those in float32 inside."""

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Box:
    """One estimator in one setting, in groups of `group_size`."""

    name: str
    setting: Setting
    group_size: int
    estimator: Any
    """What the package is given."""
    objective: Callable[[Group], Any]
    """The same for the oracle."""
    tolerance: float = DOUBLE
    theta_ref: Tensor | None = None

    @property
    def count(self) -> int:
        """Ordered groups of the largest prompt that theta_old can draw."""
        every = (prompt.probability(self.setting.theta_old) for prompt in self.setting.prompts)
        return max(int((P > 0).sum()) for P in every) ** self.group_size


@dataclass(frozen=True)
class Loss:
    """One choice of each part; `value` is to be maximised."""

    term: parts.Term
    reduction: reductions.Reduction
    gate: gates.Gate = gates.open_gate
    extra: Callable[[parts.View], Tensor | float] = reductions.nothing
    prepared: Callable[[parts.View], parts.View] = lambda view: view
    metrics: dict[str, float] | None = None

    def value(self, view: parts.View) -> Any:
        """The objective of one group, with its metrics where it has any."""
        view = self.prepared(view)
        gate = self.gate(view)
        if not isinstance(gate, Tensor) or gate.ndim == 0:
            found = gate
        else:
            table = self.term(view) * (gate if gate.ndim == 2 else gate[:, None])
            found = self.reduction(table, view) + self.extra(view)
        return found if self.metrics is None else (found, self.metrics)

    @property
    def name(self) -> str:
        """The parts in one line."""
        chosen = [self.term, self.reduction, self.gate, self.extra, self.prepared]
        names = [
            part.__name__ for part in chosen if part.__name__ not in ("<lambda>", "open_gate", "nothing")
        ]
        return " ".join(names + ["with_metrics"] * (self.metrics is not None))


def as_objective(loss: Loss, statistic: parts.Statistic) -> Callable[[Any], Any]:
    """objective(batch), for the package and for the oracle alike."""

    def objective(batch):
        A = statistic(batch.reward)
        view = parts.View(batch.logp, batch.logp_old, batch.mask, A, batch.logp_ref, batch.horizon)
        return loss.value(view)

    return objective


def minimised(loss: Loss) -> Callable[..., Any]:
    """loss(logp, logp_old, advantages, mask), as a trainer writes it."""

    def trainers_loss(logp, logp_old, advantages, mask):
        return negative(loss.value(parts.View(logp, logp_old, mask, advantages)))

    return trainers_loss


def negative(value: Any) -> Any:
    """- value, metrics left alone."""
    return (-value[0], value[1]) if isinstance(value, tuple) else -value


def of_objective(name: str, setting: Setting, G: int, loss: Loss, statistic: parts.Statistic) -> Box:
    """objective(batch) -> scalar."""
    objective = as_objective(loss, statistic)
    reference = setting.theta_ref if loss.extra is reductions.divergence_from_reference else None
    return Box(name, setting, G, objective, objective, tolerance_of(loss), reference)


def of_loss(name: str, setting: Setting, G: int, loss: Loss, statistic: parts.Statistic) -> Box:
    """from_loss(loss, advantage)."""
    trainers_loss = minimised(loss)

    def objective(group):
        return negative(trainers_loss(group.logp, group.logp_old, statistic(group.reward), group.mask))

    estimator = from_loss(trainers_loss, axes.of_rewards(statistic))
    return Box(name, setting, G, estimator, objective, tolerance_of(loss))


def tolerance_of(loss: Loss) -> float:
    return SINGLE if loss.prepared is parts.in_float32 else DOUBLE


def dealt(rng: random.Random, items: Sequence[Item]) -> Iterator[Item]:
    """The items in random order, again and again."""
    while True:
        yield from rng.sample(items, len(items))


GROUP_SIZES = {2: (4, 3), 3: (4, 3, 2), 4: (3, 4, 2), 7: (3, 2), 8: (2, 3), 9: (2, 3), 27: (2,)}
"""For N responses, at most 729 ordered groups."""


def group_size(setting: Setting, index: int) -> int:
    """One that goes with the number of responses."""
    sizes = GROUP_SIZES[max(len(prompt.reward) for prompt in setting.prompts)]
    return sizes[index % len(sizes)]


def losses(rng: random.Random, count: int) -> list[Box]:
    """`count` losses, two in three as objective(batch), the others through from_loss."""
    statistics, terms = dealt(rng, parts.STATISTICS), dealt(rng, parts.TERMS)
    reduced, gated = dealt(rng, reductions.REDUCTIONS), dealt(rng, gates.GATES)
    extras, sizes = dealt(rng, reductions.EXTRAS), dealt(rng, SIZES)
    found = []
    for index in range(count):
        loss = Loss(next(terms), next(reduced), next(gated), next(extras))
        if index % 10 == 0:
            loss = dataclasses.replace(loss, prepared=parts.in_float32)
        if index % 7 == 0:
            loss = dataclasses.replace(loss, metrics={"kl": 0.0})
        setting = draw(rng, next(sizes), drift=rng.choice((0.0, 0.4, 0.4, 0.8)))
        statistic, G = next(statistics), group_size(setting, index)
        make = of_loss if index % 3 == 0 else of_objective
        title = f"{index}: {make.__name__} {statistic.__name__} {loss.name}, G={G}, {setting.name}"
        found.append(make(title, setting, G, loss, statistic))
    return found


def estimators(rng: random.Random, rounds: int) -> list[Box]:
    """Every own axis in `rounds` bases and worlds."""
    bases, sizes, found = dealt(rng, axes.BASES), dealt(rng, SIZES), []
    for index, (axis, own) in enumerate(axes.OWN * rounds):
        estimator = dataclasses.replace(next(bases), **{axis: own})
        setting = draw(rng, next(sizes), drift=0.4 if axis in ("ratio", "clip") else rng.choice((0.0, 0.4)))
        G = group_size(setting, index)
        title = f"{index}: {axis} of an Estimator({estimator.describe()}), G={G}, {setting.name}"
        found.append(Box(title, setting, G, estimator, axes.in_words(estimator)))
    return found


def many_groups() -> list[Box]:
    """8 responses in groups of 4, 4096 ordered groups of 330 multisets: what is done where order is not read.

    Most of these losses read the order, and most of those not under every reordering.
    """
    rng = random.Random("many groups")
    flat, ragged, same = eight_responses(rng, 0.4), three_lengths(rng, 0.4), eight_responses(rng, 0.0)
    graded = eight_responses(rng, 0.4, distinct)
    p, r, g = parts, reductions, gates
    found = []
    for make, setting, loss, statistic in (
        (of_objective, ragged, Loss(p.log_prob, r.mean_over_tokens_of_each_pair), p.minus_mean),
        (of_loss, ragged, Loss(p.token_ratio, r.mean_over_tokens_of_odd_and_even_rows), p.minus_mean),
        (of_objective, flat, Loss(p.token_ratio, r.ring_of_products), p.minus_mean),
        (of_loss, flat, Loss(p.log_prob, r.ends_against_the_rest), p.minus_mean),
        (of_objective, flat, Loss(p.log_prob, r.mean_of_sums, g.stop_where_the_first_is_worst), p.raw),
        (of_loss, ragged, Loss(p.token_ratio, r.mean_of_means), p.minus_mean_of_earlier_rows),
        (of_objective, same, Loss(p.log_prob, r.faintly_by_order), p.minus_min),
        (of_objective, ragged, Loss(p.held_self_normalised, r.divided_by_the_longest), p.single_minus_median),
        (of_objective, ragged, Loss(p.token_ratio, r.mean_over_the_padded_table, g.early_stop), p.rank),
        (of_loss, flat, Loss(p.token_ratio, r.by_order, prepared=p.in_float32), p.minus_mean),
        (of_objective, graded, Loss(p.log_prob, r.mean_of_sums, g.one_order_of_the_best), p.raw),
    ):
        title = f"many groups: {make.__name__} {statistic.__name__} {loss.name}, G=4, {setting.name}"
        found.append(make(title, setting, 4, loss, statistic))
    for setting, base, axis, own in (
        (flat, axes.BASES[6], "ratio", axes.single_self_normalised),
        (ragged, axes.BASES[1], "clip", axes.only_the_first(0.05)),
    ):
        estimator = dataclasses.replace(base, **{axis: own})
        title = f"many groups: {axis} of an Estimator({estimator.describe()}), G=4, {setting.name}"
        found.append(Box(title, setting, 4, estimator, axes.in_words(estimator)))
    return found


def behind_a_try() -> Box:
    """27 groups, of which the loss leaves some out by a way that is closed to whoever traces it."""
    loss = Loss(parts.token_ratio, reductions.mean_of_sums, gates.early_stop_with_errors_swallowed)
    title = f"behind a try: {loss.name}, G=3, three responses"
    return of_loss(title, three_responses(), 3, loss, parts.minus_mean)


BOXES = [
    *losses(random.Random("black boxes 3"), 120),
    *estimators(random.Random("own axes"), 2),
    *many_groups(),
    behind_a_try(),
]
"""With these seeds no box has weights of 0 in all of its groups."""


def reused(rng: random.Random, count: int) -> list[tuple[Box, int, float]]:
    """(box, K, eta): a loss or an estimator of the battery in a world of at most 4 responses."""
    few = [box for box in BOXES if box.count <= 81 and box.tolerance == DOUBLE]
    return [(box, rng.choice((1, 1, 2)), rng.choice((0.5, 1.5))) for box in rng.sample(few, count)]


REUSED = reused(random.Random("reused groups"), 24)
