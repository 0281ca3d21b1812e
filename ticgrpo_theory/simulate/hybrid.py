"""Groups drawn, gathered and scattered by compiled passes; the estimator's formula in torch, all replicates at once."""

import numpy as np
import torch
from torch import Tensor

from ticgrpo_theory.simulate import phases
from ticgrpo_theory.simulate.forest import Tree
from ticgrpo_theory.simulate.formula import Groups, needs_moments, weights_of
from ticgrpo_theory.simulate.settings import Settings, reference_table
from ticgrpo_theory.simulate.state import State
from ticgrpo_theory.simulate.uniforms import child_key, key
from ticgrpo_theory.simulate.workspace import workspace


class Hybrid:
    """Moves the replicates of one state, first_replicate being the number of its first one."""

    def __init__(self, settings: Settings, state: State, first_replicate: int) -> None:
        S, V = settings.theta.shape
        R, T = len(state.theta), settings.mdp.horizon
        self.settings, self.state = settings, state
        adam = settings.optimizer
        self.adam = (0.0, 0.0, 0.0) if adam is None else (adam.beta1, adam.beta2, adam.epsilon)
        nothing = np.empty(0, dtype=np.int64)
        self.tree = settings.tree or Tree(nothing, nothing, nothing, nothing.reshape(0, 0))
        rows = np.arange(S) if settings.tree is None else settings.tree.order
        self.every_row = nothing if adam is None else rows
        self.work = workspace(
            R, settings.batches, settings.prompts_per_step, settings.group_size, T, S, V, adam is not None
        )
        origin = key(settings.seed, "simulate")
        self.keys = np.array([child_key(origin, first_replicate + r) for r in range(R)], dtype=np.int64)
        self.sums = np.zeros((R, 4))
        self.score_at_start = bool(settings.estimator.score(False, True))
        self.needs_moments = needs_moments(settings.estimator)
        self.logp_ref = reference_table(settings)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Exact J and ||grad J||^2 of every replicate."""
        R = len(self.state.theta)
        returns, squares = np.empty(R), np.empty(R)
        # On a tree the worth that is kept must not depend on how often somebody looks.
        worth = self.state.worth if self.state.step == 0 else self.state.worth.copy()
        phases.measure(self.settings.forest, self.state.theta, worth, returns, squares)
        return returns, squares

    def advance(self, last: int) -> np.ndarray:
        """Takes the outer steps up to `last`; ||Delta||^2 of the last one."""
        settings, state, work = self.settings, self.state, self.work
        K, B = settings.inner_steps, settings.batches
        for n in range(state.step, last):
            common = (settings.forest, self.tree, state.theta, state.worth, work)
            phases.begin(*common, self.keys, n, state.frozen, self.every_row)
            groups = [self.groups(b) for b in range(B)]
            loud = n == 0
            by_batch = [weights_of(settings.estimator, group, state.refusals, loud) for group in groups]
            logp = torch.from_numpy(work.logp).view(groups[0].mask.shape)
            for k in range(K):
                c = by_batch[k % B](logp).contiguous().view(len(logp), -1, logp.shape[-1])
                phases.advance(
                    work,
                    n,
                    k,
                    c.numpy(),
                    self.score_at_start,
                    settings.learning_rates[n],
                    self.adam,
                    state.moments,
                    n * K + k + 1,
                    self.sums,
                    state.frozen,
                )
            phases.conclude(*common, self.sums, state.totals, state.frozen)
        state.step = last
        return self.sums[:, phases.MOVED]

    def groups(self, b: int) -> Groups:
        """What the estimator reads of the groups of batch b."""
        settings, work = self.settings, self.work
        R, _, M, T = work.slot.shape
        P = settings.prompts_per_step
        shape = (R, P, M // P, T)
        slot = torch.from_numpy(work.slot[:, b])
        mean = std = None
        if self.needs_moments:
            mean, std = self.outcome_moments(b)
        return Groups(
            logp_old=torch.from_numpy(work.logp_old[:, b]).reshape(shape),
            mask=(slot >= 0).view(shape),
            reward=torch.from_numpy(work.reward[:, b]).reshape(shape[:-1]),
            logp_ref=None if self.logp_ref is None else self.reference(b).view(shape),
            mean=mean,
            std=std,
            horizon=T,
        )

    def reference(self, b: int) -> Tensor:
        """log pi_ref of every token; 0 at padding."""
        slot = self.work.slot[:, b]
        rows = np.take_along_axis(self.work.row, slot.reshape(len(slot), -1), axis=1).reshape(slot.shape)
        table = self.logp_ref[torch.from_numpy(rows).long(), torch.from_numpy(self.work.token[:, b]).long()]
        return table.where(torch.from_numpy(slot >= 0), 0.0)

    def outcome_moments(self, b: int) -> tuple[Tensor, Tensor]:
        """mu and sigma of r at theta_{n,0} for the prompt of every group, [R, P, 1]."""
        R, Q = len(self.state.theta), len(self.settings.forest.weight)
        mean, std = np.zeros((R, Q)), np.zeros((R, Q))
        phases.outcome_moments_of(self.settings.forest, self.state.theta, self.state.frozen, mean, std)
        prompt = torch.from_numpy(self.work.prompt[:, b]).long()
        return tuple(torch.from_numpy(x).gather(1, prompt)[..., None] for x in (mean, std))
