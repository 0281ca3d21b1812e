"""Compiled passes draw, gather and scatter; the formula runs in torch, on all replicates at once."""

import numpy as np
import torch
from torch import Tensor

from ticgrpo_theory.simulate.engines.engine import Engine
from ticgrpo_theory.simulate.passes import outer_step
from ticgrpo_theory.simulate.settings import Settings, reference_table
from ticgrpo_theory.simulate.state import State
from ticgrpo_theory.simulate.token_weights import GroupArrays, needs_moments, weights_in_step


def by_response(array: np.ndarray) -> Tensor:
    """The array [..., T, G] as the formulas read it, [..., G, T]; not copied."""
    return torch.from_numpy(array).transpose(-1, -2)


class Hybrid(Engine):
    """One outer step after another, one call of the formula for each inner step of all replicates."""

    def __init__(self, settings: Settings, state: State, first_replicate: int) -> None:
        super().__init__(settings, state, first_replicate)
        self.needs_moments = needs_moments(settings.estimator)
        self.logp_ref = reference_table(settings)

    def advance(self, last: int) -> np.ndarray:
        """Takes the outer steps up to `last`; ||Delta||^2 of the last one."""
        settings, state, work = self.settings, self.state, self.work
        K, B = settings.inner_steps, settings.num_batches
        world = (settings.graphs, self.tree)
        for n in range(state.step, last):
            outer_step.begin(*world, self.plan, self.replicates, work, n)
            groups = [self.groups(b) for b in range(B)]
            by_batch = [weights_in_step(settings.estimator, group, n, state.refusals) for group in groups]
            logp = by_response(work.logp)
            for k in range(K):
                c = by_batch[k % B](logp).transpose(-1, -2).contiguous()
                outer_step.advance(self.plan, self.replicates, work, n, k, c.numpy())
            outer_step.conclude(*world, self.replicates, work)
        state.step = last
        return self.replicates.sums[:, outer_step.MOVED]

    def groups(self, b: int) -> GroupArrays:
        """What the estimator reads of the groups of batch b."""
        work = self.work
        mean = std = None
        if self.needs_moments:
            mean, std = self.outcome_moments(b)
        return GroupArrays(
            logp_old=by_response(work.logp_old[:, b]),
            mask=by_response(work.mask[:, b]),
            reward=torch.from_numpy(work.reward[:, b]),
            logp_ref=None if self.logp_ref is None else self.reference(b),
            mean=mean,
            std=std,
            horizon=self.settings.mdp.horizon,
            tokens=by_response(work.token[:, b]).long(),
        )

    def reference(self, b: int) -> Tensor:
        """log pi_ref of every token; 0 at padding."""
        work = self.work
        slot = work.slot[:, b].reshape(len(work.row), -1)
        if self.plan.apart:
            slot = np.take_along_axis(work.used[:, b], slot, axis=1)
        rows = np.take_along_axis(work.row, slot, axis=1).reshape(work.slot[:, b].shape)
        rows, token, mask = (by_response(x) for x in (rows, work.token[:, b], work.mask[:, b]))
        return self.logp_ref[rows.long(), token.long()].where(mask, 0.0)

    def outcome_moments(self, b: int) -> tuple[Tensor, Tensor]:
        """mu and sigma of r at theta_{n,0} for the prompt of every group, [R, P, 1]."""
        R, Q = len(self.state.theta), len(self.settings.graphs.weight)
        mean, std = np.zeros((R, Q)), np.zeros((R, Q))
        outer_step.outcome_moments_of(self.settings.graphs, self.state.theta, self.state.frozen, mean, std)
        prompt = torch.from_numpy(self.work.prompt[:, b]).long()
        at_prompt = [torch.from_numpy(x).gather(1, prompt)[..., None] for x in (mean, std)]
        return at_prompt[0], at_prompt[1]
