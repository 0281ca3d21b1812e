"""Both algorithms with infinite groups: nothing is random any more, and the loops are maps of logits.

    field(theta; theta_old) = sum_y P_old(y) sum_t c_t(y) grad log pi_theta(a_t | s_{t-1}),   A = z(r(y))
    theta_{n,k+1} = theta_{n,k} + eta field(theta_{n,k}; theta_{n,0}),   theta_{n+1,0} = theta_{n,K}

with mu and sigma of r under theta_old in place of the statistics of the group. Many pairs (theta, theta_old),
each with a learning rate of its own, go through the formula of the estimator at once; for one pair
`expected_gradient(..., group_size=math.inf)` is the same number.
"""

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.estimators.advantages import limit_of
from ticgrpo_theory.estimators.catalogue import name_of
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.estimators.scales import pools_lengths
from ticgrpo_theory.exact.responses.many_policies import Unrolled, returns_and_gradients, scatter_each, unroll
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import pull_back


class MeanField:
    """The mean of an estimator over infinite groups, as a function of M pairs (theta, theta_old).

    Every response is read in every call: small worlds only. Raises ValueError for a world with more than
    graph.MAX_PATHS responses, for penalties, and for scales that read the other lengths of a group.
    """

    def __init__(self, mdp: TokenMDP, estimator: Estimator) -> None:
        if estimator.penalty is not None or pools_lengths(estimator.scale):
            raise ValueError(
                f"the estimator {name_of(estimator)} has a penalty or a scale that reads the lengths of the "
                f"whole group; take expected_gradient(..., group_size=math.inf), one pair at a time"
            )
        if not estimator.properties.known:
            raise ValueError(
                f"the estimator {name_of(estimator)} has parts that are not of the catalogue, and infinite "
                f"groups cannot be listed: take a finite group"
            )
        self.mdp, self.estimator = mdp, estimator

    @cached_property
    def prompts(self) -> list[Unrolled]:
        # Uniform logits: every response has a positive probability, so all of them are listed.
        return unroll(self.mdp, torch.zeros(self.mdp.num_rows, self.mdp.vocab_size).double(), None)

    def __call__(
        self, theta: Float[Tensor, "M S V"], theta_old: Float[Tensor, "M S V"]
    ) -> Float[Tensor, "M S V"]:
        """E[g_hat] at G = infinity, for each pair."""
        return self.from_old(theta_old)(theta)

    def from_old(self, theta_old: Float[Tensor, "M S V"]) -> Callable[[Tensor], Tensor]:
        """The field as a function of theta alone: what hangs on theta_old is computed once."""
        parts = [weights_of(prompt, self.estimator, theta_old) for prompt in self.prompts]

        def field(theta: Float[Tensor, "M S V"]) -> Float[Tensor, "M S V"]:
            weights = sum((weights(theta) for weights in parts), torch.zeros_like(theta))
            return pull_back(weights, self.estimator.score(theta, theta_old))

        return field

    def outer_step(
        self, theta_old: Float[Tensor, "M S V"], learning_rate: Float[Tensor, " M"], inner_steps: int
    ) -> Float[Tensor, "M S V"]:
        """theta_{n+1,0} from theta_{n,0}: K steps of the field, held at theta_old.

        Raises ValueError where logits become non-finite.
        """
        theta, field = theta_old, self.from_old(theta_old)
        for _ in range(inner_steps):
            theta = theta + learning_rate[:, None, None] * field(theta)
        lost = (~torch.isfinite(theta)).flatten(1).any(dim=1)
        if bool(lost.any()):
            raise ValueError(
                f"at learning rate {learning_rate[lost][0].item():g} the logits become non-finite within an "
                f"outer step of {inner_steps} inner steps: lower it, or choose a clip that bounds the weights"
            )
        return theta

    def path(
        self,
        theta: Float[Tensor, "M S V"],
        learning_rate: Float[Tensor, " M"],
        inner_steps: int,
        outer_steps: int,
    ) -> Iterator[Float[Tensor, "M S V"]]:
        """theta_{n,0} for n = 1..N."""
        for _ in range(outer_steps):
            theta = self.outer_step(theta, learning_rate, inner_steps)
            yield theta

    def returns(self, theta: Float[Tensor, "M S V"]) -> tuple[Float[Tensor, " M"], Float[Tensor, "M S V"]]:
        """J and grad J at each theta."""
        return returns_and_gradients(self.prompts, theta)


def weights_of(
    prompt: Unrolled, estimator: Estimator, theta_old: Float[Tensor, "M S V"]
) -> Callable[[Tensor], Tensor]:
    """theta -> sum_y P(prompt) P_old(y) c_t(y), added up at the row and token of each t."""
    logp_old = prompt.logp(theta_old)
    M, N, T = logp_old.shape
    # Groups of one: with mu and sigma given, no response enters the weights of another.
    mask = prompt.mask.expand(M, N, T)[:, :, None]
    prob = logp_old.sum(dim=-1).exp()
    mean = prob @ prompt.reward
    std = (prob * (prompt.reward - mean[:, None]).square()).sum(dim=-1).sqrt()
    advantage = limit_of(estimator.advantage, mean[:, None, None], std[:, None, None])
    A = advantage(prompt.reward.expand(M, N)[..., None]) * estimator.scales(mask, prompt.horizon)
    chance = prompt.weight * prob[..., None]

    def weights(theta: Float[Tensor, "M S V"]) -> Float[Tensor, "M S V"]:
        log_ratio = (prompt.logp(theta) - logp_old)[:, :, None]
        c = estimator.response_weights(log_ratio, A, mask, None, logp_old[:, :, None])[:, :, 0]
        return scatter_each(prompt.index, prompt.mask, chance * c, theta.shape)

    return weights
