"""What `simulate` was given, and the settings that it makes once they are checked."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.estimators.penalties import GIVEN, kl_exact
from ticgrpo_theory.estimators.resolve import AnyEstimator, check_group_size
from ticgrpo_theory.experiment.own_code import own_code, own_files
from ticgrpo_theory.inputs.numbers import number_or_nan, shown, switch, whole_number
from ticgrpo_theory.simulate.prompt_graphs import PromptGraphs, Tree, graphs_of, tree_of
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import check_entries, check_reference, check_sampler, logits
from ticgrpo_theory.worlds.samplers import Sampler

Schedule = Callable[[int], float]

OfPolicy = Callable[[Tensor], Tensor]
"""theta [S, V] -> logits [S, V] of the policy that draws, such as those of worlds/samplers.py."""


MAX_TOKENS = 2**28
"""Tokens that one replicate draws in an outer step: each has several numbers of 8 bytes."""

MAX_NUMBERS = 2**31
"""Numbers that the records of all replicates hold: 16 GiB."""

MAX_OUTER_STEPS = 2**31
"""The learning rate of each of them is kept."""


@dataclass(frozen=True)
class Adam:
    """theta += eta m_hat / (sqrt(v_hat) + epsilon), elementwise on [S, V] in every inner step.

    m_hat, v_hat: running means of g_hat and its square, corrected for their start at 0 and never reset.
    Raises ValueError for betas outside [0, 1) and epsilon <= 0.
    Source: arXiv:1412.6980 v9, Algorithm 1, which here maximises.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        first, second, epsilon = map(number_or_nan, (self.beta1, self.beta2, self.epsilon))
        if not 0 <= first < 1 or not 0 <= second < 1 or not epsilon > 0:
            raise ValueError(
                f"beta1 = {self.beta1!r}, beta2 = {self.beta2!r}, epsilon = {self.epsilon!r}: Adam needs "
                f"0 <= beta < 1, and epsilon > 0, which keeps the step of a logit that has no gradient at 0"
            )


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of `simulate` on which numbers depend, under their names and as they were given."""

    mdp: TokenMDP
    theta: Tensor | ArrayLike
    estimator: AnyEstimator
    group_size: int
    learning_rate: float | Schedule
    inner_steps: int
    outer_steps: int
    batches: str
    prompts_per_step: int
    record_every: int
    record_theta: bool
    optimizer: Adam | None
    theta_ref: Tensor | ArrayLike | None
    seed: int
    sampler: "OfPolicy | None" = None


class Own(NamedTuple):
    """What is the user's own in an estimator."""

    code: str
    """One word for the code of its functions; "" where it has none."""
    files: dict[str, str]
    """SHA-256 of the files that they come from, for a message that says what was edited."""


@dataclass(frozen=True, eq=False)
class Settings:
    """Checked arguments."""

    mdp: TokenMDP
    theta: Float[Tensor, "S V"]
    theta_ref: Float[Tensor, "S V"] | None
    estimator: AnyEstimator
    group_size: int
    learning_rates: NDArray[np.float64]
    inner_steps: int
    outer_steps: int
    batches: Batches
    """REUSED where K = 1, which makes no difference between them."""
    prompts_per_step: int
    record_every: int
    record_theta: bool
    optimizer: Adam | None
    seed: int
    world: str
    """Digest of `mdp` when the request was made: its arrays may be written to later."""
    sampler: OfPolicy | None = None

    @cached_property
    def graphs(self) -> PromptGraphs:
        return graphs_of(self.mdp)

    @cached_property
    def tree(self) -> Tree | None:
        return tree_of(self.graphs, self.mdp.num_rows)

    @property
    def num_batches(self) -> int:
        """B, groups for each prompt of an outer step: 1 where they are reused, K where they are disjoint."""
        return self.batches.drawn(self.inner_steps)

    @property
    def steps(self) -> NDArray[np.int64]:
        """The outer steps at whose beginning J and grad J are recorded."""
        return np.arange(0, self.outer_steps, self.record_every)

    @cached_property
    def digest(self) -> str:
        """Everything that the numbers depend on, in one word, but for functions of a user's own."""
        described = [
            name_of(self.estimator),
            self.estimator.describe(),
            repr(self.optimizer),
            [self.group_size, self.inner_steps, self.outer_steps, self.num_batches],
            [self.prompts_per_step, self.record_every, self.record_theta, self.seed, self.mdp.horizon],
        ]
        if self.sampler is not None:
            described.append(repr(self.sampler) if isinstance(self.sampler, Sampler) else "a function")
        code = hashlib.sha256(json.dumps(described).encode())
        reference = [] if self.theta_ref is None else [self.theta_ref.numpy()]
        for array in (*self.graphs, self.theta.numpy(), self.learning_rates, *reference):
            code.update(repr((array.shape, array.dtype.str)).encode() + array.tobytes())
        return code.hexdigest()

    @cached_property
    def own(self) -> Own:
        """The functions of a user's own that the estimator and the sampler are made of."""
        parts = self.estimator if self.sampler is None else (self.estimator, self.sampler)
        return Own(own_code(parts), own_files(parts))


def largest_logit(dtype: type) -> float:
    """Logits beyond this count as non-finite: sums of their squares would overflow."""
    return 1e-4 * math.sqrt(float(np.finfo(dtype).max))


def learning_rates(learning_rate: float | Schedule, outer_steps: int) -> NDArray[np.float64]:
    """eta of every outer step."""
    given = [learning_rate(n) for n in range(outer_steps)] if callable(learning_rate) else [learning_rate]
    rates = [number_or_nan(rate) for rate in given]
    for n, rate in enumerate(rates):
        if not (math.isfinite(rate) and rate > 0):
            where = f" at outer step {n}" if callable(learning_rate) else ""
            raise ValueError(
                f"learning_rate = {shown(given[n])}{where}: a step size must be > 0 and finite; gradients "
                f"are ascended"
            )
    return np.array(rates) if callable(learning_rate) else np.full(outer_steps, rates[0])


def check_size(settings: Settings, replicates: int) -> None:
    """Raise ValueError for tables of a run that no memory holds: its groups, and what it records."""
    tokens = settings.prompts_per_step * settings.num_batches * settings.group_size * settings.mdp.horizon
    if tokens > MAX_TOKENS:
        raise ValueError(
            f"group_size = {settings.group_size:,}, prompts_per_step = {settings.prompts_per_step:,}: a "
            f"replicate draws {tokens:,} tokens at once, more than MAX_TOKENS = {MAX_TOKENS:,}; lower "
            f"either, or inner_steps where batches are disjoint"
        )
    records = -(-settings.outer_steps // settings.record_every)
    table = settings.theta.numel() * (1 + (records if settings.record_theta else 0))
    numbers = replicates * (2 * records + table)
    if numbers > MAX_NUMBERS:
        raise ValueError(
            f"replicates = {replicates:,} with {records:,} records keep {numbers:,} numbers, more than "
            f"MAX_NUMBERS = {MAX_NUMBERS:,}; lower replicates, raise record_every, or simulate in turns with "
            f"first_replicate"
        )


def check_estimator(estimator: AnyEstimator, theta: Tensor, theta_ref: Tensor | None) -> None:
    """Raise ValueError where the estimator cannot be evaluated on sampled groups, or lacks its reference."""
    penalty = estimator.penalty
    if isinstance(penalty, kl_exact):
        raise ValueError(
            f"{penalty!r} sums over the vocabulary at every visited state, which sampled groups do not hold; "
            f"take kl_loss(k3, beta, token), which estimates it, or study it with expected_gradient"
        )
    if penalty is not None and theta_ref is None and getattr(penalty, "reference", GIVEN) == GIVEN:
        raise ValueError(
            f"the penalty {penalty!r} compares with a reference policy: give theta_ref=... (logits [S, V])"
        )
    if theta_ref is not None:
        check_reference(theta, theta_ref)


def settings_of(given: Arguments) -> Settings:
    """The arguments, checked; what is wrong is refused with its value, the limit and the way out."""
    mdp, estimator = given.mdp, given.estimator
    G = whole_number(
        "group_size", given.group_size, 1, "responses of one group (an infinite one cannot be drawn)"
    )
    K = whole_number("inner_steps", given.inner_steps, 1, "K counts the updates between two draws of groups")
    N = whole_number("outer_steps", given.outer_steps, 1, "N counts the refreshes of the old policy")
    if N > MAX_OUTER_STEPS:
        raise ValueError(f"outer_steps = {N:,}, more than MAX_OUTER_STEPS = {MAX_OUTER_STEPS:,}: lower it")
    P = whole_number("prompts_per_step", given.prompts_per_step, 1, "groups of an inner step")
    check_group_size(G, estimator)
    drop = getattr(estimator, "filter", None)
    if isinstance(drop, drop_equal) and drop.redraws:
        raise ValueError(
            f"{drop!r} draws groups again, and a simulated step takes the groups that it draws: simulate "
            f"drop_equal('divide_by_kept'), or ask expected_gradient(..., prompts=P)"
        )
    if P > 1 and getattr(estimator, "reads_update", False):
        raise ValueError(
            f"prompts_per_step = {P}: the groups of a step are averaged, and the estimator reads the whole "
            f"update; simulate it with prompts_per_step=1, or ask expected_gradient(..., prompts={P})"
        )
    theta = logits(mdp, given.theta)
    theta_ref = None if given.theta_ref is None else logits(mdp, given.theta_ref, "theta_ref")
    check_estimator(estimator, theta, theta_ref)
    if given.optimizer is not None and not isinstance(given.optimizer, Adam):
        raise ValueError(
            f"optimizer = {shown(given.optimizer)}: give Adam() of ticgrpo_theory.simulate, or None, which "
            f"is plain ascent"
        )
    return Settings(
        mdp=mdp,
        theta=theta,
        theta_ref=theta_ref,
        estimator=estimator,
        group_size=G,
        learning_rates=learning_rates(given.learning_rate, N),
        inner_steps=K,
        outer_steps=N,
        batches=Batches.of(given.batches).made(K),
        prompts_per_step=P,
        record_every=whole_number("record_every", given.record_every, 1, "outer steps between two records"),
        record_theta=switch("record_theta", given.record_theta, "keep the logits", "keep returns alone"),
        optimizer=given.optimizer,
        seed=whole_number("seed", given.seed, -(2**256), "the name of the random numbers"),
        world=mdp.digest,
        sampler=checked_sampler(given.sampler, theta),
    )


def checked_sampler(sampler: OfPolicy | None, theta: Float[Tensor, "S V"]) -> OfPolicy | None:
    """The sampler; ValueError for what is no function of a policy, or gives no logits of its shape."""
    if sampler is None:
        return None
    if not callable(sampler) or isinstance(sampler, type):
        raise ValueError(
            f"sampler = {shown(sampler)} is no function of a policy: give one of "
            f"ticgrpo_theory.worlds.samplers with its parameters, such as top_p(0.9), or None"
        )
    drawn = sampler(theta.clone())
    if not isinstance(drawn, Tensor) or drawn.shape != theta.shape or drawn.dtype != torch.float64:
        raise ValueError(
            f"sampler = {shown(sampler)} returned {shown(drawn)} for logits {tuple(theta.shape)}: return a "
            f"float64 tensor of that shape, -inf for tokens that are never drawn"
        )
    check_entries(drawn, "sampler(theta)")
    check_sampler(drawn, theta)
    return sampler


def reference_table(settings: Settings) -> Float[Tensor, "S V"] | None:
    """log pi_ref."""
    return None if settings.theta_ref is None else torch.log_softmax(settings.theta_ref, dim=-1)
