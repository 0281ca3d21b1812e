"""The decompositions of GRPO (Eq. 7) and TIC-GRPO (Eq. 11) on one given group.

The terms are those of terms.py with the group's own advantages; mu, E[sigma_G] and E[1/|s|] are
those of theta_old. Over all groups they average to `decompose`.

Source: arXiv:2508.02833 v2, Eq. 7 and 11.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.resolve import EstimatorLike
from ticgrpo_theory.exact.clip_fraction import NO_SIGN
from ticgrpo_theory.exact.decomposition.expected_terms import Decomposition, chosen, prepared, token_tables
from ticgrpo_theory.exact.decomposition.terms import Signed, Versions, constants, equation_of, versions
from ticgrpo_theory.exact.problem import PromptProblem
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.many_policies import flat_index, scatter_each
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.policy import pull_back


def decompose_group(
    mdp: TokenMDP,
    theta: Tensor | ArrayLike,
    theta_old: Tensor | ArrayLike,
    estimator: EstimatorLike,
    group: Sequence[int | tuple[int, ...]],
) -> Decomposition:
    """g_hat of one group and its terms; each member is an index into mdp.responses, or the response's tokens.

    Source: arXiv:2508.02833 v2, Eq. 7 and 11. Raises ValueError as `decompose` does, for members that are no
    responses of the world or have probability zero under theta_old, and for worlds of several prompts.
    """
    check_single_prompt(mdp)
    responses = Responses(prepared(mdp, theta, theta_old, estimator, len(group)).one)
    members = torch.tensor([[responses.index_of(member) for member in group]])
    total, terms = responses.decomposed(members)
    return Decomposition(total[0], *terms.map(lambda x: x[0]), constants=(responses.constants,))


def check_single_prompt(mdp: TokenMDP) -> None:
    if len(mdp.prompts) > 1:
        raise ValueError(
            f"this world has {len(mdp.prompts)} prompts and a group belongs to one of them: decompose its "
            f"groups in that prompt's own world, mdp.prompts[q][1]"
        )


class Responses:
    """All responses of one prompt, and how a group of them is decomposed."""

    def __init__(self, problem: PromptProblem) -> None:
        self.problem, self.equation = problem, equation_of(problem.given)
        self.constants = constants(problem)
        paths = problem.mdp.graph.paths
        self.logp, self.logp_old = (
            enumeration.token_log_probabilities(paths, table) for table in (problem.theta, problem.theta_old)
        )
        self.prob_old = self.logp_old.sum(dim=1).exp().numpy()
        self.mask, self.index = torch.from_numpy(paths.mask), flat_index(paths, problem.mdp.vocab_size)
        self.reward = torch.from_numpy(problem.mdp.graph.reward[paths.outcome])

    def index_of(self, member: int | tuple[int, ...]) -> int:
        """The position of a response in mdp.responses."""
        responses = self.problem.mdp.responses
        if isinstance(member, tuple):
            if member not in responses:
                raise ValueError(
                    f"{member} is not a response of this world, which has {len(responses)}, from "
                    f"{responses[0]} to {responses[-1]} (mdp.responses)"
                )
            member = responses.index(member)
        if not 0 <= member < len(responses):
            raise ValueError(
                f"{member} is no index into mdp.responses: give 0..{len(responses) - 1}, or the tokens "
                f"of the response"
            )
        if not self.prob_old[member] > 0:
            raise ValueError(
                f"the response {responses[member]} has probability zero under theta_old: no group contains "
                f"it; give the masked token a finite logit in theta_old, or leave the response out"
            )
        return member

    def decomposed(self, members: Int64[Tensor, "M G"]) -> tuple[Float[Tensor, "M S V"], Versions]:
        """g_hat and the terms of M groups."""
        problem, estimator = self.problem, chosen(self.problem)
        logp, logp_old = self.logp[members], self.logp_old[members]
        reward, mask, index = self.reward[members], self.mask[members], self.index[members]
        batch = Batch(logp, logp_old, reward, mask, horizon=problem.mdp.horizon)
        shape = torch.Size((len(members), *problem.theta.shape))

        def summed(weights: Float[Tensor, "M G T"]) -> Float[Tensor, "M S V"]:
            return scatter_each(index, mask, weights, shape)

        A = estimator.advantages(batch)
        signed = Signed(A.clamp(min=0.0), A.clamp(max=0.0), (A < -NO_SIGN).double())
        tables = token_tables(problem, self.constants, reward, signed, batch.log_ratio, mask)
        mean = tables.map(lambda x: summed(x / members.shape[1]))
        total = pull_back(summed(estimator.token_weights(batch)), problem.theta.expand(shape))
        return total, versions(mean, self.equation, problem.theta, problem.theta_old)
