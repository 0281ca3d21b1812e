"""A world small enough to list: every response of a random Qwen to each of a few prompts, and all groups of
them.

Expectations are taken twice. Through the code of training: all groups as one update, each weighed by its
probability, so that one call of `step.accumulate` leaves E[g_hat] in the gradients. And without any of it:
the network gives its next-token logits after every prefix, one prefix at a time and without padding;
these tables [S, V] go through `ticgrpo_theory.exact`, and what comes back is pulled back to the weights
through them.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llm.model import Architecture, LanguageModel, tiny
from llm.sequences import Sequences
from llm.update.groups import Groups
from llm.update.logprobs import Scoring, log_probabilities
from llm.update.microbatches import Partition, consecutive_rows
from llm.update.step import Recipe, accumulate
from ticgrpo_theory.estimators.estimator import Estimator, old
from ticgrpo_theory.estimators.resolve import HasTokenWeights
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.groups.multisets import groups
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.stats.rng import stream
from ticgrpo_theory.worlds.mdp import TokenMDP

Rows = Sequence[Sequence[int]]

Write = Callable[[Rows, Rows, int], Sequences]
"""From prompts and responses, row by row, and the pad token to the tensors that are scored."""


@dataclass(frozen=True)
class Toy:
    """Prompts of unequal length for a network that differs from the one that drew the responses."""

    kind: str = "qwen3"
    """Architecture: qwen3 or qwen2."""
    vocab_size: int = 3
    """Every token can be drawn, the pad token included."""
    horizon: int = 3
    """Responses end with EOS or at this length."""
    eos: int = 1
    """The token that ends a response."""
    pad: int = 0
    """The token at padding; elsewhere it is a token like any other."""
    prompts: tuple[tuple[int, ...], ...] = ((2,), (0, 2, 1, 0))
    """Token numbers; each prompt weighs the same in J."""
    group_size: int = 2
    """G."""
    spread: float = 0.4
    """Standard deviation of the weights of theta_old."""
    drift: float = 0.05
    """Standard deviation of theta - theta_old, and of the reference's distance to theta_old."""
    seed: int = 0
    """Of all weights."""

    def reward(self, prompt: int, response: tuple[int, ...]) -> float:
        """Halves from 0 to 1, different for the prompts and for the order of tokens."""
        return (sum((t + 1) * (token + 1 + prompt) for t, token in enumerate(response)) % 3) / 2

    @cached_property
    def worlds(self) -> list[TokenMDP]:
        """The token MDP of each prompt."""
        return [
            TokenMDP.prefix_tree(
                vocab_size=self.vocab_size,
                horizon=self.horizon,
                reward=lambda response, p=p: self.reward(p, response),
                eos=self.eos,
            )
            for p in range(len(self.prompts))
        ]

    @property
    def responses(self) -> list[tuple[int, ...]]:
        return self.worlds[0].responses

    @cached_property
    def old(self) -> LanguageModel:
        """theta_old, from which responses are drawn."""
        return tiny(
            Architecture(
                vocab_size=self.vocab_size,
                hidden=16,
                layers=2,
                heads=4,
                kv_heads=2,
                intermediate=24,
                tied=self.kind == "qwen3",
                eos=self.eos,
                pad=self.pad,
                kind=self.kind,
            ),
            dtype=torch.float64,
            seed=self.seed,
            std=self.spread,
        )

    @cached_property
    def current(self) -> nn.Module:
        """theta."""
        return self.moved("current")

    @cached_property
    def reference(self) -> nn.Module:
        """The policy that penalties compare with."""
        return self.moved("reference")

    def moved(self, name: str) -> nn.Module:
        """theta_old with every weight moved, norms and biases included."""
        network = copy.deepcopy(self.old.network)
        with torch.no_grad():
            for label, parameter in network.named_parameters():
                step = torch.empty_like(parameter).normal_(generator=stream(self.seed, name, label))
                parameter.add_(self.drift * step)
        return network


def table(network: nn.Module, prompt: tuple[int, ...], world: TokenMDP, temperature: float = 1.0) -> Tensor:
    """logits [S, V] / temperature after the prompt and every prefix: a forward pass each, nothing padded."""
    rows = [
        network(input_ids=torch.tensor([[*prompt, *prefix]]), use_cache=False).logits[0, -1]
        for prefix in world.prefixes
    ]
    return torch.stack(rows) / temperature


def pulled_back(network: nn.Module, tables: list[Tensor], cotangents: list[Tensor]) -> Float[Tensor, " D"]:
    """sum_p sum_sa cotangent[p][s, a] d table[p][s, a] / d weights."""
    total = sum((t * c).sum() for t, c in zip(tables, cotangents, strict=True))
    parameters = list(network.parameters())
    found = torch.autograd.grad(total, parameters, allow_unused=True)  # type: ignore[arg-type]
    return flat([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)])


def flat(tensors: list[Tensor]) -> Float[Tensor, " D"]:
    return torch.cat([tensor.flatten() for tensor in tensors])


def true_gradient(toy: Toy, temperature: float = 1.0) -> Float[Tensor, " D"]:
    """grad J in the weights of theta, J the mean over prompts of the expected reward."""
    tables = [
        table(toy.current, prompt, world, temperature)
        for prompt, world in zip(toy.prompts, toy.worlds, strict=True)
    ]
    parts = [
        policy_gradient(world, t.detach()) / len(tables) for world, t in zip(toy.worlds, tables, strict=True)
    ]
    return pulled_back(toy.current, tables, parts)


def tabular_expectation(toy: Toy, estimator: Estimator, temperature: float = 1.0) -> Float[Tensor, " D"]:
    """E[g_hat] in the weights, from the exact expectation over tables of logits."""
    cotangents, tables = [], []
    for prompt, world in zip(toy.prompts, toy.worlds, strict=True):
        now, before, reference = (
            table(network, prompt, world, temperature)
            for network in (toy.current, toy.old.network, toy.reference)
        )
        theta_ref = None if estimator.penalty is None else reference.detach()
        found = expected_gradient(
            world, now.detach(), before.detach(), estimator, toy.group_size, theta_ref=theta_ref
        )
        cotangents.append(found / len(toy.prompts))
        tables.append(before if estimator.score is old else now)
    return pulled_back(toy.old.network if estimator.score is old else toy.current, tables, cotangents)


def all_responses(toy: Toy, write: Write = Sequences.of_lists) -> Sequences:
    """Every response to every prompt, prompt after prompt."""
    every = [(prompt, response) for prompt in toy.prompts for response in toy.responses]
    return write([p for p, _ in every], [r for _, r in every], toy.pad)


def response_log_probabilities(
    toy: Toy, network: nn.Module, scoring: Scoring, write: Write = Sequences.of_lists
) -> Float[Tensor, "p N T"]:
    """log pi of every token of every response to every prompt, by the function that training uses."""
    sequences = all_responses(toy, write)
    rows = consecutive_rows(64)(sequences)
    found = log_probabilities(network, sequences, rows, scoring).logp
    return found.reshape(len(toy.prompts), -1, found.shape[-1])


def all_groups(toy: Toy, recipe: Recipe, write: Write = Sequences.of_lists) -> Groups:
    """Every multiset of G responses of every prompt as one update, each with its probability as weight."""
    old_logp = response_log_probabilities(toy, toy.old.network, recipe.scoring, write)
    ref_logp = response_log_probabilities(toy, toy.reference, recipe.scoring, write)
    prompts, responses, rewards, weights, rows = [], [], [], [], []
    for p, world in enumerate(toy.worlds):
        probability = old_logp[p].sum(dim=-1).exp().detach().numpy()
        for members, weight in groups(probability, toy.group_size, 2**20):
            chosen = members.flatten().tolist()
            prompts += [toy.prompts[p]] * len(chosen)
            responses += [world.responses[n] for n in chosen]
            rewards += [[toy.reward(p, world.responses[n]) for n in group] for group in members.tolist()]
            weights.append(torch.from_numpy(weight) / len(toy.prompts))
            rows.append(torch.from_numpy(members) + p * len(toy.responses))
    index = torch.cat(rows)
    return Groups(
        write(prompts, responses, toy.pad),
        torch.tensor(rewards, dtype=torch.float64),
        old_logp.flatten(0, 1)[index],
        ref_logp.flatten(0, 1)[index],
        horizon=toy.horizon,
        weight=torch.cat(weights),
    )


def expectation(
    toy: Toy,
    estimator: HasTokenWeights,
    *,
    scoring: Scoring | None = None,
    microbatches: Partition | None = None,
    write: Write = Sequences.of_lists,
) -> Float[Tensor, " D"]:
    """E[g_hat] in the weights through the code of training: one update that consists of all groups.

    Where the estimator takes its score at theta_old, the update is made there, as `updates.hold` makes it.
    """
    recipe = Recipe(estimator, microbatches or consecutive_rows(512), scoring or Scoring())
    network = toy.old.network if getattr(estimator, "score", None) is old else toy.current
    network.zero_grad(set_to_none=True)
    accumulate(network, all_groups(toy, recipe, write), recipe)
    return -flat([p.grad for p in network.parameters() if p.grad is not None])


def gap(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return ((found - expected).norm() / expected.norm()).item()


def padded_further(columns: int) -> Write:
    """Sequences with more padding on either side than needed, which is filled with tokens of all kinds."""

    def write(prompts: Rows, responses: Rows, pad: int) -> Sequences:
        plain = Sequences.of_lists(prompts, responses, pad)
        B, filling = len(plain), torch.arange(columns) % (max(map(max, prompts)) + 1)
        blank = torch.zeros(B, columns, dtype=torch.bool)
        wide = Sequences(
            torch.cat([filling.expand(B, columns), plain.prompt], dim=-1),
            torch.cat([blank, plain.prompt_mask], dim=-1),
            torch.cat([plain.response, filling.expand(B, columns)], dim=-1),
            torch.cat([plain.mask, blank], dim=-1),
        )
        wide.check()
        return wide

    return write


def without_eos(prompts: Rows, responses: Rows, pad: int) -> Sequences:
    """A mistake: the token that ended a response (of two tokens or more) is taken for padding."""
    plain = Sequences.of_lists(prompts, responses, pad)
    column = torch.arange(plain.mask.shape[-1])
    return dataclasses.replace(plain, mask=column < (plain.lengths - 1).clamp(min=1)[:, None])


@dataclass(frozen=True)
class shifted_by_one(Scoring):
    """A mistake: each token meets the state after itself, not the one from which it was drawn."""

    def states(self, network: nn.Module, sequences: Sequences) -> Float[Tensor, "n d"]:
        return super().states(network, sequences).roll(-1, dims=0)


@dataclass(frozen=True)
class per_microbatch:
    """A mistake: every `rows` responses are normalised by themselves, and the pieces of a group averaged."""

    estimator: Estimator
    rows: int

    def token_weights(self, batch) -> Tensor:
        pieces = batch.mask.split(self.rows, dim=-2)
        wrong = torch.cat([self.estimator.scales(piece, batch.horizon) for piece in pieces], dim=-1) / len(
            pieces
        )
        right = self.estimator.scales(batch.mask, batch.horizon)
        return self.estimator.token_weights(batch) * (wrong / right)[..., None]
