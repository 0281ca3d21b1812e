"""A language model as a token MDP: exact policies from one row for each prompt, and gradients in its weights.

    model = ExactModel(language_model, [Prompt(ids, alphabet(tokenizer, "0123456789", 2, reward))])
    table = model.table()                              logits [S, V], with their graph
    problem = Problem(model.mdp, model.policy_of(table), theta_old, "grpo", 8)
    model.pull(table, problem.mean)                    E[g_hat] in the weights
    model.pull(table, problem.gradient)                grad J in the weights

    grad_phi = sum_sa cotangent[s, a] d theta[s, a] / d phi,  theta = logits(phi) / temperature

The policy is the softmax over the tokens that lead to an answer. Expectations over all groups are those of
ticgrpo_theory, on the table in float64; the network adds one forward pass, and one backward pass for each
gradient.

Memory: the weights, one copy for each gradient that is held, and the activations of S + L tokens for each
prompt. Of embeddings and head only the rows that the answers read have a gradient; a leaf of these rows
stands for them, since a dense one of a large vocabulary would exceed all others.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from llm.exact_model.answers import Answers
from llm.exact_model.inner_products import Gradient
from llm.exact_model.tree_row import TreeRow
from llm.model import LanguageModel, parts_of
from llm.update.logprobs import precision
from ticgrpo_theory.worlds.mdp import TokenMDP

AGREES = 1e-2
"""Largest difference of logits between tree and plain row, relative to the larger of 1 and the logits, beyond
which an architecture is refused; what is found in float32 is below 1e-4."""

MASS = 0.5
"""Probability of all answers under the whole vocabulary below which the restriction is warned of."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt with the answers that it allows."""

    tokens: Sequence[int]
    answers: Answers
    weight: float = 1.0
    """Of its return in J, relative to the other prompts."""


class ExactModel:
    """The restricted policy of a network on some prompts; `mdp` is its token MDP, `parameters` its weights.

    Raises ValueError for no prompt, a temperature that is not positive, and a network whose logits of the row
    differ from those of plain rows. Warns where the answers hold less than half of the model's probability.
    """

    def __init__(
        self, language_model: LanguageModel, prompts: Sequence[Prompt], *, temperature: float = 1.0
    ) -> None:
        if not prompts:
            raise ValueError("prompts is empty: give at least one Prompt(tokens, answers)")
        if not temperature > 0:
            raise ValueError(f"temperature = {temperature}: it divides logits, give a number above 0")
        self.network: Any = language_model.network
        self.device, self.temperature = language_model.device, temperature
        self.prompts = list(prompts)
        self.tokens = sorted({token for prompt in prompts for token in prompt.answers.tokens})
        worlds = [prompt.answers.world(self.tokens) for prompt in prompts]
        total = sum(prompt.weight for prompt in prompts)
        shares = [prompt.weight / total for prompt in prompts]
        self.mdp = worlds[0] if len(worlds) == 1 else TokenMDP.mixture(worlds, shares, share_rows=False)
        self.allowed = torch.from_numpy(
            np.concatenate([prompt.answers.allowed(self.tokens) for prompt in prompts])
        )
        self.rows = [TreeRow.of(list(prompt.tokens), prompt.answers.prefixes) for prompt in prompts]
        self._take_leaves()
        self._check_row()
        for prompt, mass in zip(prompts, self.masses(), strict=True):
            if mass < MASS:
                warnings.warn(
                    f"the answers to the prompt of {len(prompt.tokens)} tokens hold {mass:.1%} of its "
                    f"probability: the restricted policy is not what the model says; allow more answers, or "
                    f"word the prompt so that it asks for one of them",
                    stacklevel=2,
                )

    def _take_leaves(self) -> None:
        """Leaves for the rows of embeddings and head that are read; one where the two are one table."""
        _, head = parts_of(self.network)
        embeddings = self.network.get_input_embeddings()
        self.used = sorted({token for row in self.rows for token in row.ids.tolist()} | set(self.tokens))
        at = {token: n for n, token in enumerate(self.used)}
        self.read = [torch.tensor([at[token] for token in row.ids.tolist()]) for row in self.rows]
        self.said = torch.tensor([at[token] for token in self.tokens])
        self.tied = head.weight is embeddings.weight
        tables = [embeddings.weight] if self.tied else [embeddings.weight, head.weight]
        self.tables = {id(table): table for table in tables}
        self.leaves = [nn.Parameter(table.detach()[self.used].clone()) for table in tables]
        others = [p for p in self.network.parameters() if p.requires_grad and id(p) not in self.tables]
        self.parameters: list[nn.Parameter] = [*self.leaves, *others]

    @property
    def size(self) -> int:
        """Weights that have a gradient."""
        return sum(parameter.numel() for parameter in self.parameters)

    def table(self, body: nn.Module | None = None, autocast: torch.dtype | None = None) -> Tensor:
        """Logits [S, V] / temperature after every prefix, prompt after prompt, with their graph.

        `body`: another transformer with the same embeddings and head, such as a quantised copy. `autocast`:
        precision of matrix products.
        """
        with precision(self.device, autocast):
            found = [
                self.head(self.hidden(row, read, body))
                for row, read in zip(self.rows, self.read, strict=True)
            ]
        exact = torch.float64 if found[0].dtype == torch.float64 else torch.float32
        return torch.cat(found).to(exact) / self.temperature

    def hidden(self, row: TreeRow, read: Tensor, body: nn.Module | None = None) -> Float[Tensor, "s d"]:
        """The hidden state after each prefix, from one forward pass over the row."""
        embedded = self.leaves[0][read][None]
        blocked = torch.zeros(row.sees.shape, dtype=embedded.dtype)
        blocked.masked_fill_(~row.sees, torch.finfo(embedded.dtype).min)
        given = self.network.base_model if body is None else body
        states = given(
            inputs_embeds=embedded,
            position_ids=row.position[None].to(self.device),
            attention_mask=blocked[None, None].to(self.device),
            use_cache=False,
        ).last_hidden_state
        return states[0, row.state]

    def head(self, states: Float[Tensor, "s d"]) -> Float[Tensor, "s V"]:
        """Logits of the tokens of answers alone."""
        _, head = parts_of(self.network)
        logits = states @ self.leaves[-1][self.said].T
        bias = getattr(head, "bias", None)
        return logits if bias is None else logits + bias[self.tokens]

    def policy_of(self, table: Tensor) -> Float[Tensor, "S V"]:
        """The table as theta: float64, without graph, -inf where a token leads to no answer."""
        return table.detach().double().cpu().masked_fill(~self.allowed, -torch.inf)

    @torch.no_grad()
    def policy(
        self,
        body: nn.Module | None = None,
        autocast: torch.dtype | None = None,
        temperature: float | None = None,
    ) -> Float[Tensor, "S V"]:
        """theta at the weights as they are; of a sampler at its own precision or temperature."""
        given = self.policy_of(self.table(body, autocast))
        return given if temperature is None else given * (self.temperature / temperature)

    def pull(self, table: Tensor, cotangent: Float[Tensor, "S V"], keep: bool = False) -> Gradient:
        """sum_sa cotangent[s, a] d table[s, a] / d weights, one tensor for each of `parameters`.

        `keep` keeps the graph for another gradient.
        """
        loss = (table * cotangent.to(table)).sum()
        found = torch.autograd.grad(loss, self.parameters, retain_graph=keep, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Write moved leaves into the network's own tables, which plain rows read."""
        for leaf, table in zip(self.leaves, self.tables.values(), strict=True):
            table[self.used] = leaf

    @torch.no_grad()
    def masses(self) -> list[float]:
        """P(answer) of each prompt when the whole vocabulary may be drawn."""
        _, head = parts_of(self.network)
        found = []
        for prompt, row, read in zip(self.prompts, self.rows, self.read, strict=True):
            states, answers = self.hidden(row, read), prompt.answers
            logp = head(states).double().div(self.temperature).log_softmax(dim=-1)
            below: dict[tuple[int, ...], float] = dict.fromkeys(answers.reward, 1.0)
            for n, prefix in reversed(list(enumerate(answers.prefixes))):
                onward = [token for token in answers.tokens if (*prefix, token) in below]
                below[prefix] = sum(float(logp[n, token].exp()) * below[*prefix, token] for token in onward)
            found.append(below[()])
        return found

    @torch.no_grad()
    def _check_row(self) -> None:
        """Raise ValueError unless the longest prefix has the logits of a plain row."""
        gap = max(self.gaps(longest=True))
        if not gap <= AGREES:
            raise ValueError(
                f"{type(self.network).__name__} gives other logits for a row of many prefixes than for "
                f"plain rows (they differ by {gap:.3g} of their size): take an architecture such as Qwen2, "
                f"Qwen3 or Llama, with rotary positions, and attention='sdpa' or 'eager'"
            )

    @torch.no_grad()
    def gaps(self, longest: bool = False) -> list[float]:
        """max |logit of the row - logit of a plain row| / max(1, |logits|) of each prefix, or of the last."""
        found, table, first = [], self.table() * self.temperature, 0
        for prompt in self.prompts:
            prefixes = prompt.answers.prefixes
            for n in [len(prefixes) - 1] if longest else range(len(prefixes)):
                ids = torch.tensor([[*prompt.tokens, *prefixes[n]]], device=self.device)
                plain = self.network(input_ids=ids, use_cache=False).logits[0, -1, self.tokens]
                apart = (plain - table[first + n]).abs().max() / plain.abs().max().clamp(min=1.0)
                found.append(float(apart))
            first += len(prefixes)
        return found
