"""Every response of a world under many policies at once: J, grad J and group gradients at M tables of logits.

    J(theta) = sum_q weight_q sum_y P_theta(y | q) r(y)          one number for each of M tables [M, S, V]

Where a policy depends on the group that moved it, each group has its own theta, and nothing is shared but the
responses themselves: they are listed once, as indices into a flat table of S V logits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.worlds.graph import Paths
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import log_probabilities, pull_back


@dataclass(frozen=True, eq=False)
class Unrolled:
    """The responses of one prompt that can be drawn; `index` is row * V + token, 0 on padding."""

    weight: float
    index: Int64[Tensor, "N T"]
    mask: Bool[Tensor, "N T"]
    reward: Float[Tensor, " N"]
    prob: Float[Tensor, " N"]
    """Under the policy that draws."""
    logp_old: Float[Tensor, "N T"]
    """With padding as trainers have it: at padding `index` has a token whose log-probability is read."""
    logp_ref: Float[Tensor, "N T"] | None
    logp_sampler: Float[Tensor, "N T"]
    horizon: int
    tokens: Int64[Tensor, "N T"]
    truncated: Bool[Tensor, " N"] | None

    def logp(self, theta: Float[Tensor, "M S V"]) -> Float[Tensor, "M N T"]:
        """log pi_theta(a_t | s_{t-1}) of every token of every response; 0 on padding."""
        return self.logp_everywhere(theta).where(self.mask, 0.0)

    def logp_everywhere(self, theta: Float[Tensor, "M S V"]) -> Float[Tensor, "M N T"]:
        """The same with what the padding reads."""
        return log_probabilities(theta).flatten(start_dim=1)[:, self.index]

    def return_and_weights(
        self, theta: Float[Tensor, "M S V"]
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, "M S V"]]:
        """E_theta[r] of the prompt, and M[s, a] = sum_y P_theta(y) r(y) #{t: row s, token a}."""
        value = self.logp(theta).sum(dim=-1).exp() * self.reward
        weights = scatter_each(
            self.index, self.mask, value[..., None].expand(-1, *self.mask.shape), theta.shape
        )
        return value.sum(dim=-1), weights

    def gradients(
        self,
        c: Float[Tensor, "M G T"],
        score_at: Float[Tensor, "M S V"],
        members: Int64[Tensor, "M G"],
    ) -> Float[Tensor, "M S V"]:
        """g_hat of M groups with these token weights, the score taken at each one's own policy."""
        counted = self.mask[members] | (c != 0)
        return pull_back(scatter_each(self.index[members], counted, c, score_at.shape), score_at)

    def batch(self, theta: Float[Tensor, "M S V"], members: Int64[Tensor, "M G"]) -> Batch:
        """Groups as estimators see them, each at its own theta."""
        own = torch.arange(len(members))[:, None]
        return Batch(
            self.logp_everywhere(theta)[own, members],
            self.logp_old[members],
            self.reward[members],
            self.mask[members],
            None if self.logp_ref is None else self.logp_ref[members],
            self.horizon,
            self.logp_sampler[members],
            None if self.truncated is None else self.truncated[members],
            tokens=self.tokens[members],
        )


def unroll(
    mdp: TokenMDP,
    theta_old: Float[Tensor, "S V"],
    theta_ref: Float[Tensor, "S V"] | None,
    theta_sampler: Float[Tensor, "S V"] | None = None,
) -> list[Unrolled]:
    """Every prompt with the responses that can be drawn. Raises ValueError beyond graph.MAX_PATHS."""
    found, policies = [], enumeration.Policies(theta_old, theta_old, theta_ref, theta_sampler)
    for weight, prompt in mdp.prompts:
        listed = enumeration.responses(prompt.graph, policies)
        every = enumeration.with_padding(listed, policies)
        found.append(
            Unrolled(
                weight,
                flat_index(every.paths, mdp.vocab_size),
                every.mask,
                every.reward,
                every.prob,
                every.logp_old,
                every.logp_ref,
                every.logp_sampler,
                mdp.horizon,
                every.tokens,
                every.truncated,
            )
        )
    return found


def flat_index(paths: Paths, vocab_size: int) -> Int64[Tensor, "N T"]:
    """row * V + token of every token, and of what the padding reads."""
    return torch.from_numpy(paths.rows * vocab_size + paths.tokens)


def returns_and_gradients(
    prompts: list[Unrolled], theta: Float[Tensor, "M S V"]
) -> tuple[Float[Tensor, " M"], Float[Tensor, "M S V"]]:
    """J and grad J of the whole world at each of M policies."""
    J, weights = torch.zeros(len(theta), dtype=theta.dtype), torch.zeros_like(theta)
    for prompt in prompts:
        value, M = prompt.return_and_weights(theta)
        J, weights = J + prompt.weight * value, weights + prompt.weight * M
    return J, pull_back(weights, theta)


def scatter_each(
    index: Int64[Tensor, "*m n T"],
    mask: Bool[Tensor, "*m n T"],
    coefficients: Float[Tensor, "M n T"],
    shape: torch.Size,
) -> Float[Tensor, "M S V"]:
    """M[m, s, a] = sum over the tokens of set m at (row s, token a) of their coefficients, in a fixed order.

    `index` and `mask` are those of each set, or of all sets alike.
    """
    count, size = shape[0], shape[1] * shape[2]
    place = (index + size * torch.arange(count)[:, None, None]).expand(coefficients.shape)
    kept = mask.expand(coefficients.shape)
    flat = np.bincount(
        place[kept].numpy(), weights=coefficients[kept].contiguous().numpy(), minlength=count * size
    )
    return torch.from_numpy(flat).reshape(shape)
