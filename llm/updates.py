"""The K updates of one rollout, also for estimators whose gradient is held at theta_old.

`stale` takes the gradients of all K mini-batches at theta_old, before the first update; they wait on the CPU.
"""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llm.groups import Groups, minibatches
from llm.step import Pass, Recipe, accumulate, describe, finish, score, update
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.exact.multisets import HasTokenWeights

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
    """Make `number` updates from one rollout, each when asked for; yields its mini-batch and its record.

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
    check_held(recipe.estimator, groups.shape[1])
    distinct = parts[:1] if batches == "reused" else parts
    minis = [groups.select(part) for part in distinct]
    held = hold(network, minis, recipe, held_bytes)
    for k in range(number):
        now = min(k, len(held) - 1)
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


def check_held(estimator: HasTokenWeights, group_size: int) -> None:
    """Raise ValueError where the weights of an estimator with the score at theta_old move with theta."""
    G = max(2, group_size)
    mask = torch.ones(G, 3, dtype=torch.bool)
    logp_old = torch.full((G, 3), -1.5, dtype=torch.float64)
    reward = (torch.arange(G) % 2).double()
    still = estimator.token_weights(Batch(logp_old, logp_old, reward, mask, logp_old, horizon=3))
    for step in (0.01, -0.01, 1.0, -1.0):
        moved = estimator.token_weights(Batch(logp_old + step, logp_old, reward, mask, logp_old, horizon=3))
        if not torch.equal(still, moved):
            raise ValueError(
                f"the estimator ({describe(estimator)}) takes its score at theta_old, but its weights at "
                f"theta: its gradients cannot be taken before the first update; use ratio none without a "
                f"penalty in the loss, as `stale` does, or the score at theta"
            )
