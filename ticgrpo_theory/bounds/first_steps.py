"""Mean and second moment of g_hat_0, the gradient of the first inner step, exactly, at many policies at once.

With reward values v, counts n_v of a group, its advantages A_v, Phi = kappa sum_t grad log pi(a_t | s_{t-1}):

    m = sum_v E[n_v A_v / G] Phi_v,                                          Phi_v = E[Phi | r = v]
    q = E|| sum_v (n_v A_v / G) Phi_v ||^2 + (1/G^2) sum_v E[n_v A_v^2] Var(Phi | r = v)

for any number of reward values and any lengths, as long as kappa = G scale is a response's own. A comes from
the advantage itself, on groups of rewards; kappa from the scale. Where there are several prompts, the group's
prompt is drawn with its weight: m and q are averaged over prompts.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ticgrpo_theory.bounds import first_gradient
from ticgrpo_theory.bounds.geometry import geometry
from ticgrpo_theory.estimators.advantage import has_known_moments
from ticgrpo_theory.estimators.advantages import needs_moments
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.resolve import EstimatorLike, check_group_size, resolve
from ticgrpo_theory.exact.group_sums.counts import Counts, multinomial, poisson_tables
from ticgrpo_theory.exact.groups.choose import Contribution
from ticgrpo_theory.exact.responses.many_policies import Unrolled, returns_and_gradients, unroll
from ticgrpo_theory.worlds.compiling import kernel
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import pull_back

MAX_COUNTS = 2**17
"""Most count vectors of a group over reward values."""

NUMBERS = 2**22
"""Numbers in the largest table made at once."""


@dataclass(frozen=True, eq=False)
class FirstStep:
    """At each of M policies: J, grad J, m = E[g_hat_0] and q = E||g_hat_0||^2."""

    expected_return: Float[Tensor, " M"]
    gradient: Float[Tensor, "M S V"]
    mean: Float[Tensor, "M S V"]
    second_moment: Float[Tensor, " M"]


def first_step(
    mdp: TokenMDP, theta: Float[Tensor, "M S V"], estimator: EstimatorLike, group_size: int
) -> FirstStep:
    """J, grad J, m and q at every policy of the list.

    Raises ValueError for estimators whose responses have no factor of their own or whose advantage asks for
    moments of the policy, for masked tokens, and for too many responses or reward values.
    """
    chosen = resolve(estimator)
    check_group_size(group_size, chosen)
    part = first_gradient.Part(geometry(mdp), chosen)
    reason = part.unscaled
    if not reason and needs_moments(part.estimator.advantage):
        reason = f"{part.estimator.advantage!r} changes with the moments of the reward under each policy"
    if reason:
        raise ValueError(
            f"moments along a path are summed over counts of rewards, which this estimator does not allow: "
            f"{reason}; ask gradient_moments for one policy at a time"
        )
    if not bool(torch.isfinite(theta).all()):
        raise ValueError(
            "a policy on the path is not finite (a masked token, or a replicate that was frozen): "
            "leave that policy out"
        )
    prompts = [
        Prompt(each, part.estimator, int(group_size))
        for each in unroll(mdp, torch.zeros_like(theta[0]), None)
    ]
    parts = []
    for block in theta.split(max(1, min(NUMBERS // prompt.numbers for prompt in prompts))):
        J, gradient = returns_and_gradients([prompt.responses for prompt in prompts], block)
        mean, second = torch.zeros_like(block), torch.zeros_like(J)
        for prompt in prompts:
            m, q = prompt.moments(block)
            mean, second = mean + prompt.responses.weight * m, second + prompt.responses.weight * q
        parts.append((J, gradient, mean, second))
    return FirstStep(*(torch.cat(each) for each in zip(*parts, strict=True)))


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt: its responses, and how groups of their rewards are counted."""

    responses: Unrolled
    estimator: Estimator
    group_size: int

    @cached_property
    def kappa(self) -> Float[Tensor, " N"]:
        """G scale of every response."""
        length = self.responses.mask.sum(dim=-1)
        G = self.group_size
        return G * self.estimator.scale(length, G * length, G, self.responses.horizon)

    @cached_property
    def tokens(self) -> Float[Tensor, "N SV"]:
        """How often response y takes token a in row s."""
        mask, index = self.responses.mask, self.responses.index
        N, size = len(mask), int(index.max()) + 1
        table = torch.zeros(N, size, dtype=torch.float64)
        return table.scatter_add_(1, index, mask.double())

    @cached_property
    def value(self) -> tuple[Float64[np.ndarray, " m"], Float[Tensor, "N m"]]:
        """Reward values, and which response has which."""
        values, index = np.unique(self.responses.reward.numpy(), return_inverse=True)
        return values, torch.nn.functional.one_hot(torch.from_numpy(index), len(values)).double()

    @cached_property
    def numbers(self) -> int:
        """Numbers kept for one policy: of responses, of tables by reward value, of counts."""
        values, of_value = self.value
        of_responses = self.responses.mask.numel() + of_value.numel()
        return of_responses + values.size * self.tokens.shape[1] + self.counted[1].shape[1]

    @cached_property
    def counted(self) -> tuple[Float64[np.ndarray, "m C"], Float64[np.ndarray, "C F"]]:
        """Count vectors n, and what is averaged over them: n_v A_v / G, n_v A_v^2 / G^2, pairs."""
        values, G = self.value[0], self.group_size
        contribution = Contribution(self.estimator.advantage, G)
        listing = Counts(contribution.of_statistics, values, np.zeros_like(values), G)
        if listing.size > MAX_COUNTS or not has_known_moments(self.estimator.advantage):
            raise ValueError(
                f"{values.size} reward values in groups of {G} make {listing.size:,} counts, more than "
                f"MAX_COUNTS = {MAX_COUNTS:,}, or the advantage is no function of mean and variance; lower G "
                f"or the number of reward values"
            )
        counts, A = (np.concatenate(part, axis=1) for part in zip(*listing.chunks(), strict=True))
        share = counts * A / G
        pairs = np.einsum("vc,wc->cvw", share, share).reshape(counts.shape[1], -1)
        return counts, np.concatenate([share.T, (counts * A**2 / G**2).T, pairs], axis=1)

    def moments(self, theta: Float[Tensor, "M S V"]) -> tuple[Float[Tensor, "M S V"], Float[Tensor, " M"]]:
        """m and q of this prompt."""
        M = len(theta)
        probability = self.responses.logp(theta).sum(dim=-1).exp()
        values, of_value = self.value
        distribution = probability @ of_value
        Phi = self.by_value(theta, probability, of_value) / positive(distribution)[..., None, None]
        spread = (probability * self.score_squares(theta)) @ of_value / positive(distribution)
        spread = spread - Phi.square().sum(dim=(-1, -2))
        counts, features = self.counted
        averaged = torch.from_numpy(expectations(distribution.numpy(), counts, features, self.group_size))
        m = len(values)
        share, square, pairs = averaged[:, :m], averaged[:, m : 2 * m], averaged[:, 2 * m :].reshape(M, m, m)
        mean = torch.einsum("mv,mvsa->msa", share, Phi)
        products = torch.einsum("mvsa,mwsa->mvw", Phi, Phi)
        return mean, (pairs * products).sum(dim=(1, 2)) + (square * spread).sum(dim=1)

    def by_value(
        self,
        theta: Float[Tensor, "M S V"],
        probability: Float[Tensor, "M N"],
        of_value: Float[Tensor, "N m"],
    ) -> Float[Tensor, "M m S V"]:
        """E[Phi 1{r = v}]."""
        _, S, V = theta.shape
        weights = torch.einsum("mn,nv,nk->mvk", probability * self.kappa, of_value, self.padded(S * V))
        shape = (len(theta), of_value.shape[1], S, V)
        return pull_back(weights.reshape(shape), theta[:, None].expand(shape))

    def padded(self, size: int) -> Float[Tensor, "N SV"]:
        """`tokens` over the whole table: rows of other prompts lie behind the last row that is read."""
        return torch.nn.functional.pad(self.tokens, (0, size - self.tokens.shape[1]))

    def score_squares(self, theta: Float[Tensor, "M S V"]) -> Float[Tensor, "M N"]:
        """||Phi||^2 = kappa^2 sum_s || tokens_s - n_s pi_s ||^2 of every response."""
        _, S, V = theta.shape
        pi = torch.softmax(theta, dim=-1)
        tokens = self.padded(S * V).reshape(-1, S, V)
        visits = tokens.sum(dim=-1)
        squares = tokens.square().sum(dim=(1, 2)) + torch.einsum("ns,msa->mn", visits.square(), pi.square())
        mixed = torch.einsum("nk,mk->mn", (tokens * visits[..., None]).flatten(1), pi.flatten(1))
        return self.kappa.square() * (squares - 2 * mixed)


def positive(distribution: Float[Tensor, "M m"]) -> Float[Tensor, "M m"]:
    """The probabilities, 1 where they underflow: what is divided by them is 0 there."""
    return distribution.where(distribution > 0, 1.0)


@kernel
def expectations(distribution, counts, features, group_size):
    """sum over count vectors n of P(n) features[n], for every distribution of the reward values."""
    out = np.zeros((distribution.shape[0], features.shape[1]))
    for row in range(distribution.shape[0]):
        tables, norm = poisson_tables(distribution[row] / distribution[row].sum(), group_size)
        weight = multinomial(counts, tables, norm)
        for c in range(weight.size):
            if weight[c] > 0:
                for k in range(features.shape[1]):
                    out[row, k] += weight[c] * features[c, k]
    return out
