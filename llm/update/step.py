"""One update: the gradient of an estimator of `ticgrpo_theory` in the weights of a network, by micro-batches.

    g_hat = sum_p weight[p] sum_it c[p,i,t] grad log pi(a[p,i,t] | s[p,i,t-1])

c are the estimator's token weights of group p, weight[p] is 1/P, so that g_hat averages over prompts and no
number of one prompt enters another's group. Everything is ascended: the loss -sum c logp is the one negation.

Micro-batches may cut a group, although its weights need the rewards and lengths of all its responses. Those
are known before the first forward pass; what a micro-batch adds is the log-probabilities of its own
responses. By the own-token rule the weights of a response read no other response's log-probabilities, so its
group is evaluated with logp_old in the place of the others', and its own rows are kept: exact, whatever the
micro-batches. The rule is known of estimators whose parts declare what they read; where a user's own part
claims it, the weights are found again from all log-probabilities of the update and compared before anything
moves; what declares nothing gets a forward pass over the whole group first.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llm.sequences import Sequences
from llm.update.groups import Groups, rows_of
from llm.update.logprobs import Scores, Scoring, log_probabilities
from llm.update.microbatches import Partition
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.properties import Differences
from ticgrpo_theory.estimators.resolve import HasTokenWeights, properties_of
from ticgrpo_theory.estimators.scales import pools_lengths


@dataclass(frozen=True)
class Recipe:
    """How updates are made; the same for all updates of a rollout and for its old log-probabilities."""

    estimator: HasTokenWeights
    """An Estimator, `from_loss(...)` or `Objective(...)`: anything with token weights."""
    microbatches: Partition
    """How rows are cut for memory; no number depends on it."""
    scoring: Scoring = field(default_factory=Scoring)
    """Temperature and precision of log-probabilities."""
    token_mean: str = "group"
    """Token means 1/sum |s| run over the "group" (arXiv:2503.14476 v2, Eq. 8) or over all tokens of the
    update, the "batch" (the code of verl and of DAPO's own recipe)."""
    max_norm: float | None = None
    """Gradients are shortened to this norm; None leaves them."""

    def __post_init__(self) -> None:
        if self.token_mean not in ("group", "batch"):
            raise ValueError(f"token_mean = {self.token_mean!r}: choose 'group' or 'batch'")
        if isinstance(self.estimator, Estimator) and self.estimator.reads_update:
            raise ValueError(
                f"the estimator ({describe(self.estimator)}) reads whole updates, and training weighs "
                f"group by group: for one token mean over the update give token_mean='batch' and the scale "
                f"token_mean; statistics and filters of an update are for expected_gradient(..., prompts=P)"
            )
        pooled = isinstance(self.estimator, Estimator) and pools_lengths(self.estimator.scale)
        if self.token_mean == "batch" and not pooled:
            raise ValueError(
                f"token_mean = 'batch' asks for a mean over the tokens of all groups, but the estimator "
                f"({describe(self.estimator)}) takes no token mean: give token_mean='group', or an estimator "
                f"with the scale token_mean"
            )
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"max_norm = {self.max_norm}: a norm to shorten to is > 0; None switches it off")


@dataclass(frozen=True, eq=False)
class Pass:
    """What one update saw: log-probabilities at its weights, before they moved, and what it did with them."""

    logp: Float[Tensor, "P G T"]
    """log pi_theta of the response tokens, detached; 0 on padding."""
    weights: Float[Tensor, "P G T"]
    """The factors that met grad log pi: token weight times weight of the group."""
    entropy: Float[Tensor, "P G T"] | None
    """Where the recipe's scoring asks for it."""
    seconds: float
    """Spent on the gradient."""
    gradient_norm: float | None = None
    """Before shortening; None until all of the gradient is there."""


class NonFinite(ArithmeticError):
    """A log-probability, a loss or a gradient was NaN or infinite; `groups` is the batch of the update."""

    def __init__(self, message: str, groups: Groups) -> None:
        super().__init__(message)
        self.groups = groups


def describe(estimator: object) -> str:
    """The estimator in one line."""
    named = getattr(estimator, "describe", None)
    return named() if named is not None else repr(estimator)


def score(
    network: nn.Module, sequences: Sequences, group_size: int, parts: Sequence[Tensor], recipe: Recipe
) -> Scores:
    """Log-probabilities of all rows by the micro-batches that the updates will use: for `logp_old`,
    `logp_ref`.

    `parts` are the group numbers of each mini-batch (`minibatches`); one that occurs again is computed once.
    In low precision the same weights give other log-probabilities in another micro-batch, so that w' would
    differ from 1 where theta = theta_old. `scores.logp.reshape(P, G, T)` goes into `Groups`.
    """
    distinct = {tuple(part.tolist()): part for part in parts}
    rows = []
    for part in distinct.values():
        own = rows_of(part.to(sequences.response.device), group_size)
        rows += [own[micro] for micro in recipe.microbatches(sequences.select(own))]
    return log_probabilities(network, sequences, rows, recipe.scoring)


def group_weights(groups: Groups, token_mean: str) -> Float[Tensor, " P"]:
    """weight[p] = 1/P, or sum_i |s[p,i]| / sum_pi |s[p,i]| for token means over the batch.

    A group's own token mean divides by its own tokens, so the second makes it a mean over all tokens.
    """
    P = groups.shape[0]
    if token_mean == "batch":
        if groups.weight is not None:
            raise ValueError(
                "token_mean = 'batch' weighs groups by their tokens, and Groups(weight=...) gives other "
                "weights: leave one of them out"
            )
        return groups.tokens.double() / groups.tokens.sum()
    if groups.weight is not None:
        return groups.weight
    return torch.full((P,), 1.0 / P, dtype=torch.float64, device=groups.reward.device)


def row_weights(
    recipe: Recipe,
    groups: Groups,
    weight: Float[Tensor, " P"],
    rows: Int[Tensor, " m"],
    logp: Float[Tensor, "m t"],
) -> Float[Tensor, "m t"]:
    """weight[p] c[p,i,t] of these rows, whose log-probabilities are `logp`; the other rows of their groups
    hold logp_old in their place."""
    G = groups.shape[1]
    touched, local = torch.unique(rows // G, return_inverse=True)
    # Here not cut to the longest of the groups: only these rows' own width is read.
    table = groups.logp_old[touched].to(logp.dtype)
    table[local, rows % G, : logp.shape[-1]] = logp
    batch = groups.batch(groups.logp_old)
    picked = {
        name: value[touched]
        for name in ("logp_old", "reward", "mask", "logp_ref", "logp_sampler")
        if (value := getattr(batch, name)) is not None
    }
    if picked.get("logp_sampler") is not None:
        picked["logp_sampler"] = picked["logp_sampler"].to(picked["logp_old"].dtype)
    picked |= {name: finite_padding(picked[name], picked["mask"], name) for name in PADDING if name in picked}
    table = finite_padding(table, picked["mask"], "logp")
    c = recipe.estimator.token_weights(dataclasses.replace(batch, logp=table, **picked))
    check_padding(c, picked["mask"], recipe.estimator)
    c = c[local, rows % G, : logp.shape[-1]]
    return (weight[rows // G].to(c.dtype)[:, None] * c).to(logp.dtype)


PADDING = {"logp": -1.5, "logp_old": -1.25, "logp_ref": -1.75, "logp_sampler": -1.375}
"""What estimators see behind a response: finite as in a trainer, where 0 * NaN would be NaN in a user's loss,
and not 0, so that a forgotten mask has weights there."""


def finite_padding(x: Float[Tensor, "p G T"], mask: Bool[Tensor, "p G T"], name: str) -> Tensor:
    return x.where(mask, PADDING[name])


def check_padding(c: Float[Tensor, "P G T"], mask: Bool[Tensor, "P G T"], estimator: HasTokenWeights) -> None:
    """Raise ValueError where there is weight behind a response: no token was drawn there."""
    if bool((c.where(mask, 0.0) != c).any()):
        raise ValueError(
            f"the estimator ({describe(estimator)}) has weights at padding, where no token was drawn: "
            f"multiply by the mask inside it, and divide by counts of the mask"
        )


def check_claim(recipe: Recipe, groups: Groups, made: Pass) -> None:
    """Raise ValueError where the weights of an update, found row by row, are not those of whole groups.

    For parts of a user's own that claim to read no other response: the claim is tested on this update.
    """
    P, G, T = groups.shape
    rows = torch.arange(P * G, device=made.logp.device)
    weight = group_weights(groups, recipe.token_mean)
    whole = row_weights(recipe, groups, weight, rows, made.logp.flatten(0, 1)).reshape(P, G, T)
    found = Differences(whole.dtype)
    found.add(whole, made.weights.to(whole.dtype), torch.ones(P, dtype=torch.float64, device=whole.device))
    if found.differ:
        raise ValueError(
            f"the estimator ({describe(recipe.estimator)}) claims to read no other response of a group, but "
            f"in this update its weights move with them: no step was made; leave the claim out, and each "
            f"update gets a forward pass over whole groups first"
        )


def accumulate(network: nn.Module, groups: Groups, recipe: Recipe) -> Pass:
    """Add -g_hat to the gradients of the parameters, so that an optimiser that descends ascends.

    Raises NonFinite for a log-probability that is NaN or infinite, and what `token_weights` raises.
    """
    start = time.perf_counter()
    P, G, T = groups.shape
    weight = group_weights(groups, recipe.token_mean)
    parts = recipe.microbatches(groups.sequences)
    every = None
    properties = properties_of(recipe.estimator)
    if G > 1 and properties.couples:
        logp = score(network, groups.sequences, G, [torch.arange(P)], recipe).logp
        check_scores(logp, groups, torch.arange(P * G))
        every = row_weights(recipe, groups, weight, torch.arange(P * G, device=logp.device), logp)
    logp_all, weights, entropy = (groups.logp_old.new_zeros(P * G, T) for _ in range(3))
    for rows in parts:
        sequences = groups.sequences.select(rows)
        scores = recipe.scoring(network, sequences)
        logp, width = scores.logp.detach(), scores.logp.shape[-1]
        check_scores(logp, groups, rows)
        c = row_weights(recipe, groups, weight, rows, logp) if every is None else every[rows, :width]
        loss = -(c * scores.logp).sum()
        # Groups of equal rewards have no weights, and nothing to send back.
        if bool(c.any()):
            loss.backward()
        logp_all[rows, :width], weights[rows, :width] = logp.to(logp_all.dtype), c.to(weights.dtype)
        if scores.entropy is not None:
            entropy[rows, :width] = scores.entropy.to(entropy.dtype)
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.grad is None:
            # A gradient of zero is a gradient: momentum and weight decay act on it, and not on None.
            parameter.grad = torch.zeros_like(parameter)
    seen = entropy.reshape(P, G, T) if recipe.scoring.entropy else None
    made = Pass(logp_all.reshape(P, G, T), weights.reshape(P, G, T), seen, time.perf_counter() - start)
    if properties.claimed and every is None:
        check_claim(recipe, groups, made)
    return made


def check_scores(logp: Float[Tensor, "m t"], groups: Groups, rows: Int[Tensor, " m"]) -> None:
    """Raise NonFinite for a log-probability that is NaN or infinite."""
    bad = ~torch.isfinite(logp)
    if bool(bad.any()):
        row, t = bad.nonzero()[0].tolist()
        raise NonFinite(
            f"log pi of token {t} of row {rows[row].item()} is {logp[row, t].item()}: the weights of the "
            f"network or its activations are no longer finite; go back to the last checkpoint with a lower "
            f"learning rate",
            groups,
        )


def finish(network: nn.Module, groups: Groups, max_norm: float | None) -> float:
    """The norm of the gradient, which is then shortened to `max_norm`.

    Raises NonFinite, before any weight is touched, where the norm is NaN or infinite.
    """
    # Squares of bfloat16 gradients are added in float32: their own sum would carry three digits.
    norms = [
        torch.linalg.vector_norm(p.grad, dtype=torch.promote_types(p.grad.dtype, torch.float32))
        for p in network.parameters()
        if p.grad is not None
    ]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if not bool(torch.isfinite(norm)):
        raise NonFinite(
            f"the norm of the gradient is {norm.item()}: no update was made; go back to the last checkpoint "
            f"with a lower learning rate, or take an estimator whose clip bounds its weights",
            groups,
        )
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(network.parameters(), max_norm, norm)
    return norm.item()


def update(network: nn.Module, optimizer: torch.optim.Optimizer, groups: Groups, recipe: Recipe) -> Pass:
    """One step of the optimiser along g_hat; its record is of the weights before the step."""
    optimizer.zero_grad(set_to_none=True)
    done = accumulate(network, groups, recipe)
    norm = finish(network, groups, recipe.max_norm)
    optimizer.step()
    return dataclasses.replace(done, gradient_norm=norm)
