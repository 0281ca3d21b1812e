"""C2*: the expected move of an outer step over all groups, K steps and clip included, on micro worlds.

    E sum <g_n, E Delta_n> <= E[J(theta_N) - J(theta_0) + (L_J / 2) sum E||Delta_n||^2]

E over the groups that theta_n can draw, every multiset of responses followed through K steps. The move itself
minus its expectation, sum (<g_n, Delta_n> - <g_n, E Delta_n>), is the control variate.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ticgrpo_theory.bounds.certificates import whole_path
from ticgrpo_theory.bounds.constants import InstanceConstants
from ticgrpo_theory.bounds.expected_steps import Sampled
from ticgrpo_theory.bounds.hypotheses import check_constants, check_settings, plain_ascent
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.batches import Batches
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.groups import multisets
from ticgrpo_theory.exact.responses.many_policies import Unrolled, returns_and_gradients, scatter_each, unroll
from ticgrpo_theory.simulate.trace import Trace
from ticgrpo_theory.worlds.policy import pull_back

MAX_STEPS = 2**27
"""Most (policy, group, response, token, step) that are evaluated: about two minutes of one core."""

CHUNK = 2**18
"""Token weights evaluated at once."""


@dataclass(frozen=True, eq=False)
class Moves:
    """At each of M policies: E Delta and E||Delta||^2 of one outer step."""

    mean: Float[Tensor, "M S V"]
    second_moment: Float[Tensor, " M"]


def expected_moves(constants: InstanceConstants, theta: Float[Tensor, "M S V"]) -> Moves:
    """E Delta and E||Delta||^2 over all groups, one group reused for all K steps of plain ascent.

    Raises ValueError for several prompts, for a callable, a penalty or a part of a user's own, which may
    treat the responses of a group unequally, and for more work than MAX_STEPS.
    """
    c = constants
    c.require("estimator", "group_size", "learning_rate", "inner_steps")
    reason = f"{len(c.mdp.prompts)} prompts" if len(c.mdp.prompts) > 1 else ""
    if c.estimator.penalty is not None or not c.estimator.properties.known:
        reason = "a callable, a penalty, or a part that is not of the catalogue"
    if reason:
        raise ValueError(
            f"{reason}: all groups of an outer step are followed for one prompt and an Estimator of the "
            f"catalogue's parts without a penalty; reuse_bias enumerates groups at a single policy"
        )
    G = c.responses_in_a_group
    (prompt,) = unroll(c.mdp, torch.zeros_like(theta[0]), None)
    N, T = prompt.mask.shape
    work = len(theta) * math.comb(N + G - 1, G) * G * T * c.inner_steps
    if work > MAX_STEPS:
        raise ValueError(
            f"{len(theta):,} policies, N = {N} responses, G = {G}, K = {c.inner_steps} ask for {work:,} "
            f"token weights, more than MAX_STEPS = {MAX_STEPS:,}; lower N, G or K, or give fewer policies"
        )
    uniform = np.full(N, 1 / N)
    ((members, chance),) = multisets.groups(uniform, G, math.comb(N + G - 1, G))
    # P(group) = multiplicity times the product of its probabilities; at equal ones that is N^-G.
    orders = torch.from_numpy(chance) * float(N) ** G
    listed = torch.from_numpy(members)
    found = [
        moves(prompt, c.estimator, block, listed, orders, c.learning_rate, c.inner_steps)
        for block in theta.split(max(1, CHUNK // (members.size * T)))
    ]
    return Moves(torch.cat([x.mean for x in found]), torch.cat([x.second_moment for x in found]))


def moves(
    prompt: Unrolled,
    estimator: Estimator,
    theta_old: Float[Tensor, "M S V"],
    members: Int64[Tensor, "n G"],
    orders: Float[Tensor, " n"],
    learning_rate: float,
    inner_steps: int,
) -> Moves:
    """The same for a few policies: every group of every policy is a batch entry."""
    M, n = len(theta_old), len(members)
    probability = prompt.logp(theta_old).sum(dim=-1).exp()[:, members].prod(dim=-1) * orders
    start = theta_old.repeat_interleave(n, dim=0)
    group = members.repeat(M, 1)
    logp_old, theta = tokens(prompt, start, group), start
    for _ in range(inner_steps):
        batch = Batch(
            tokens(prompt, theta, group),
            logp_old,
            prompt.reward[group],
            prompt.mask[group],
            horizon=prompt.horizon,
        )
        weights = scatter_each(
            prompt.index[group], prompt.mask[group], estimator.token_weights(batch), theta.shape
        )
        theta = theta + learning_rate * pull_back(weights, estimator.score(theta, start))
    move = (theta - start).reshape(M, n, *theta_old.shape[1:])
    mean = torch.einsum("mn,mnsv->msv", probability, move)
    return Moves(mean, (probability * move.square().sum(dim=(2, 3))).sum(dim=1))


def tokens(
    prompt: Unrolled, theta: Float[Tensor, "B S V"], group: Int64[Tensor, "B G"]
) -> Float[Tensor, "B G T"]:
    """log pi of every token of the groups, each at its own policy; 0 on padding."""
    every = prompt.logp(theta)
    return every[torch.arange(len(group))[:, None], group]


def check_moves(constants: InstanceConstants, trace: Trace) -> None:
    """Raise ValueError unless the outer steps of the trace are those that `expected_moves` follows."""
    G, made = constants.responses_in_a_group, trace.settings
    check_settings(constants, trace)
    wrong = [f"{h.name} fails, {h.detail}" for h in plain_ascent(trace) if not h.holds]
    if made.batches is not Batches.REUSED:
        wrong.append(f"batches = '{made.batches}', not 'reused'")
    if made.prompts_per_step != 1:
        wrong.append(f"prompts_per_step = {made.prompts_per_step}, not 1")
    if wrong:
        raise ValueError(
            f"{'; '.join(wrong)}: all groups are followed through K steps of plain ascent on one group of "
            f"{G} responses; simulate so, or take check_c1, which holds for any run"
        )


def check_c2_all_groups(constants: InstanceConstants, trace: Trace) -> Sampled:
    """C2*: as C2, with the exact expected move in place of a bound on the drift; the clip may act.

    Raises ValueError as `expected_moves` does, for a trace of another world, estimator, G, eta or K, of other
    moves than plain ascent on one reused group, and for one that does not keep its path.
    """
    check_constants(constants)
    c = constants
    c.require("estimator", "group_size", "learning_rate", "inner_steps")
    check_moves(c, trace)
    path = whole_path(trace)[:, :-1]
    R, N = path.shape[:2]
    flat = path.flatten(0, 1)
    found = expected_moves(c, flat)
    _, gradient = returns_and_gradients(unroll(c.mdp, torch.zeros_like(flat[0]), None), flat)
    ascent = (gradient * found.mean).sum(dim=(1, 2)).reshape(R, N)
    lhs, square = ascent.sum(dim=1), found.second_moment.reshape(R, N).sum(dim=1)
    plain = trace.final_return - trace.initial_return + c.L_J / 2 * square
    variate = trace.sum_gradient_dot_move - lhs
    norm = gradient.square().sum(dim=(1, 2)).reshape(R, N)
    return Sampled(lhs, plain, plain - variate, ascent / norm, ())
