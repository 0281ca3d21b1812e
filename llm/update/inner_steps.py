"""The K updates of one rollout, also for estimators whose gradient is held at theta_old.

`stale` takes the gradients of all K mini-batches at theta_old, before the first update; they wait on the CPU.
"""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llm.update.groups import Groups, minibatches
from llm.update.step import (
    Pass,
    Recipe,
    accumulate,
    describe,
    finish,
    group_weights,
    row_weights,
    score,
    update,
)
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.estimators.properties import Differences
from ticgrpo_theory.estimators.resolve import HasTokenWeights, properties_of

HELD_BYTES = 32 * 2**30
"""Memory that held gradients may take unless told otherwise: four of 2 billion float32 numbers."""


def updates(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    groups: Groups,
    recipe: Recipe,
    number: int,
    batches: str,
    held_bytes: int = HELD_BYTES,
) -> Iterator[tuple[Groups, Pass]]:
    """Make `number` updates from one rollout, each when the iterator reaches it: (mini-batch, record).

    `batches` is "disjoint" (each group once) or "reused" (all groups in every update). The first pass is at
    theta = theta_old.

    Raises ValueError where groups do not divide, and where gradients to be held need more than `held_bytes`.
    """
    parts = minibatches(groups.shape[0], number, batches, groups.reward.device)
    if getattr(recipe.estimator, "score", None) is not old:
        for part in parts:
            mini = groups.select(part)
            yield mini, update(network, optimizer, mini, recipe)
        return
    check_held(recipe.estimator)
    minis = [groups.select(part) for part in parts[: Batches.of(batches).drawn(number)]]
    held = hold(network, minis, recipe, held_bytes)
    for k in range(number):
        now = k % len(held)
        yield minis[now], held_update(network, optimizer, minis[now], recipe, held[now])


@dataclass(frozen=True, eq=False)
class Held:
    """A gradient taken at theta_old, on the CPU, and the record of the pass that made it."""

    gradients: list[Tensor | None]
    """-g_hat for each parameter."""
    record: Pass


def hold(network: nn.Module, minis: list[Groups], recipe: Recipe, limit: int) -> list[Held]:
    """The gradient of every mini-batch at the present weights.

    Raises ValueError, before the first pass, where together they need more than `limit` bytes.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    needed = len(minis) * sum(p.numel() * p.element_size() for p in trained)
    if needed > limit:
        raise ValueError(
            f"{len(minis)} gradients at theta_old need {needed:,} bytes on the CPU, more than the limit of "
            f"{limit:,}: raise the limit, make fewer updates for each rollout, or reuse one batch "
            f"(batches='reused' holds a single gradient)"
        )
    held = []
    for mini in minis:
        network.zero_grad(set_to_none=True)
        record = accumulate(network, mini, recipe)
        held.append(Held([None if p.grad is None else p.grad.cpu() for p in network.parameters()], record))
    network.zero_grad(set_to_none=True)
    return held


def held_update(
    network: nn.Module, optimizer: torch.optim.Optimizer, mini: Groups, recipe: Recipe, held: Held
) -> Pass:
    """One step along a held gradient; the record has the log-probabilities at the present weights."""
    start = time.perf_counter()
    P, G, T = mini.shape
    scores = score(network, mini.sequences, G, [torch.arange(P)], recipe)
    if not properties_of(recipe.estimator).known:
        check_still(recipe, mini, held.record, scores.logp.reshape(P, G, T))
    for parameter, gradient in zip(network.parameters(), held.gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)
    norm = finish(network, mini, recipe.max_norm)
    optimizer.step()
    return dataclasses.replace(
        held.record,
        logp=scores.logp.reshape(P, G, T),
        entropy=None if scores.entropy is None else scores.entropy.reshape(P, G, T),
        gradient_norm=norm,
        # The held pass is counted with the update that uses it.
        seconds=held.record.seconds + time.perf_counter() - start,
    )


def check_held(estimator: HasTokenWeights) -> None:
    """Raise ValueError where the weights of an estimator with the score at theta_old move with theta.

    What declares nothing passes here, and is compared at every update.
    """
    properties = properties_of(estimator)
    if properties.known and not properties.held:
        raise ValueError(f"{moves(estimator)}; use ratio none without a penalty in the loss, as `stale` does")


def check_still(recipe: Recipe, mini: Groups, held: Pass, logp: Float[Tensor, "P G T"]) -> None:
    """Raise ValueError where the weights at the present log-probabilities are not those that were held."""
    P, G, T = mini.shape
    rows = torch.arange(P * G, device=logp.device)
    now = row_weights(recipe, mini, group_weights(mini, recipe.token_mean), rows, logp.flatten(0, 1))
    found = Differences(now.dtype)
    chance = torch.ones(P, dtype=torch.float64, device=now.device)
    found.add(now.reshape(P, G, T), held.weights.to(now.dtype), chance)
    if found.differ:
        raise ValueError(f"{moves(recipe.estimator)}: no step was made; take the score at theta")


def moves(estimator: HasTokenWeights) -> str:
    return (
        f"the estimator ({describe(estimator)}) takes its score at theta_old, but its weights at theta: its "
        f"gradients cannot be taken before the first update"
    )
