"""The same algorithm in tensor operations alone, for a GPU: the same random numbers, the same formulas.

Samples are those of the compiled engines wherever a cumulative probability and a random number do not agree
to the last bit, and so are the results, to rounding. Sums into rows that several tokens share go through
`index_put_(accumulate=True)`, whose order is fixed on a GPU; the result of a replicate does not depend on the
others, but may depend in its last bits on the device and on PyTorch's version.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ticgrpo_theory.simulate.passes.uniforms import UNIT, child, fraction_bits, key
from ticgrpo_theory.simulate.settings import Settings, largest_logit, reference_table
from ticgrpo_theory.simulate.state import State
from ticgrpo_theory.simulate.token_weights import GroupArrays, needs_moments, weights_in_step


class World(NamedTuple):
    """`PromptGraphs` on the device, with the nodes of each depth over all prompts."""

    levels: list[Tensor]
    root: Tensor
    row: Tensor
    onto: Tensor
    reward: Tensor
    weight: Tensor


class Drawn(NamedTuple):
    """The groups of one inner step: rows and tokens [R, P, G, T], and what the formula reads."""

    rows: Tensor
    tokens: Tensor
    groups: GroupArrays


def world_of(settings: Settings, device: torch.device, dtype: torch.dtype) -> World:
    graphs, starts = settings.graphs, []
    first = 0
    for _, prompt in settings.mdp.prompts:
        starts.append(first + prompt.graph.node_start)
        first += prompt.graph.row.size
    levels = [
        np.concatenate([np.arange(nodes[t], nodes[t + 1]) for nodes in starts if t + 1 < len(nodes)])
        for t in range(settings.mdp.horizon)
    ]
    return World(
        levels=[torch.from_numpy(level).to(device) for level in levels],
        root=torch.from_numpy(graphs.root).to(device),
        row=torch.from_numpy(graphs.row).long().to(device),
        onto=torch.from_numpy(graphs.onto).long().to(device),
        reward=torch.from_numpy(graphs.reward).to(device, dtype),
        weight=torch.from_numpy(graphs.weight).to(device, dtype),
    )


class Tensors:
    """Moves the replicates of one state on `device`; `first_replicate` is the number of its first one."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        first_replicate: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.settings, self.state, self.device, self.dtype = settings, state, device, dtype
        self.world = world_of(settings, device, dtype)
        self.largest = largest_logit(np.float64 if dtype is torch.float64 else np.float32)
        self.theta = self.tensor(state.theta)
        self.moments, self.totals = self.tensor(state.moments), self.tensor(state.totals)
        self.frozen = torch.from_numpy(state.frozen).to(device)
        R = len(self.theta)
        numbers = torch.arange(first_replicate, first_replicate + R, device=device)
        self.keys = child(torch.tensor(key(settings.seed, "simulate"), device=device), numbers)
        self.each = torch.arange(R, device=device)
        self.score_at_start = bool(settings.estimator.score(False, True))
        self.needs_moments = needs_moments(settings.estimator)
        reference = reference_table(settings)
        self.logp_ref = None if reference is None else reference.to(device, dtype)

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, self.dtype, copy=True)

    def sync(self) -> None:
        """Copies what moved on the device into the state."""
        for name in ("theta", "moments", "totals", "frozen"):
            getattr(self.state, name)[...] = getattr(self, name).cpu().numpy()

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Exact J and ||grad J||^2 of every replicate."""
        J, gradient = self.gradient(torch.softmax(self.theta, dim=-1))
        squares = gradient.square().sum(dim=(1, 2))
        return J.double().cpu().numpy(), squares.double().cpu().numpy()

    def values(self, pi: Tensor, reward: Tensor) -> Tensor:
        """[R, N + outcomes] expected `reward` onward from every node, then the reward of every outcome."""
        row, onto = self.world.row, self.world.onto
        nodes = self.theta.new_zeros(len(pi), len(row))
        values = torch.cat([nodes, reward.expand(len(pi), -1)], dim=1)
        for level in reversed(self.world.levels):
            values[:, level] = (pi[:, row[level]] * values[:, onto[level]]).sum(dim=-1)
        return values

    def reach(self, pi: Tensor, starting: Tensor) -> Tensor:
        """[R, N + outcomes] probability of nodes and outcomes if prompt q has probability starting[q]."""
        row, onto = self.world.row, self.world.onto
        reach = self.theta.new_zeros(len(pi), len(row) + len(self.world.reward))
        reach[:, self.world.root] = starting
        for level in self.world.levels:
            moved = reach[:, level, None] * pi[:, row[level]]
            where = onto[level].flatten().expand(len(pi), -1)
            reach.index_put_((self.each[:, None], where), moved.flatten(1), accumulate=True)
        return reach

    def gradient(self, pi: Tensor) -> tuple[Tensor, Tensor]:
        """J [R] and grad J [R, S, V]."""
        row, onto = self.world.row, self.world.onto
        values, reach = self.values(pi, self.world.reward), self.reach(pi, self.world.weight)
        gradient = torch.zeros_like(pi)
        for level in self.world.levels:
            gain = values[:, onto[level]] - values[:, level, None]
            pulled = reach[:, level, None] * pi[:, row[level]] * gain
            gradient.index_put_((self.each[:, None], row[level].expand(len(pi), -1)), pulled, accumulate=True)
        return (values[:, self.world.root] * self.world.weight).sum(dim=-1), gradient

    def outcome_moments(self, pi: Tensor) -> tuple[Tensor, Tensor]:
        """mu and sigma [R, Q] of the reward of every prompt; equal rewards give exactly that one, and 0."""
        reward, nodes = self.world.reward, len(self.world.row)
        means, stds = [], []
        for prompt in torch.eye(len(self.world.root), dtype=self.dtype, device=self.device):
            distribution = self.reach(pi, prompt)[:, nodes:]
            lowest = torch.where(distribution > 0, reward, torch.inf).amin(dim=-1)
            highest = torch.where(distribution > 0, reward, -torch.inf).amax(dim=-1)
            mean = torch.where(lowest == highest, lowest, distribution @ reward)
            means.append(mean)
            stds.append((distribution * (reward - mean[:, None]).square()).sum(dim=-1).sqrt())
        return torch.stack(means, dim=-1), torch.stack(stds, dim=-1)

    def drawn_from(self, theta: Tensor) -> Tensor:
        """Logits [R, S, V] of the policy that draws for every replicate."""
        sampler = self.settings.sampler
        if sampler is None:
            return theta
        # A replicate that is frozen stays where it was; each table is a call of its own.
        return torch.stack([sampler(each.double().cpu()) for each in theta]).to(self.device, self.dtype)

    def draw(self, step_key: Tensor, pi: Tensor, log_pi: Tensor, log_old: Tensor, b: int) -> Drawn:
        """The groups of batch b, token by token, all replicates at once; pi is the policy that draws."""
        settings, world = self.settings, self.world
        R, P, G, T = len(pi), settings.prompts_per_step, settings.group_size, settings.mdp.horizon
        number = torch.arange(b * P, (b + 1) * P, device=self.device)
        zero = torch.zeros_like(number)
        u = self.uniform(child(child(step_key[:, None], -1 - number), zero))
        prompt = (world.weight.double().cumsum(0)[:-1] <= u[..., None]).sum(dim=-1)
        keys = child(step_key[:, None, None], number[:, None] * G + torch.arange(G, device=self.device))
        node = world.root[prompt][..., None].expand(R, P, G)
        shape = (R, P, G, T)
        rows, tokens = (torch.zeros(shape, dtype=torch.long, device=self.device) for _ in range(2))
        mask = torch.zeros(shape, dtype=torch.bool, device=self.device)
        reward = self.theta.new_zeros(R, P, G)
        replicate, last = self.each[:, None, None], pi.shape[-1] - 1
        for t in range(T):
            going = node < len(world.row)
            at = node.where(going, 0)
            s = world.row[at]
            p = pi[replicate, s]
            u = self.uniform(child(keys, torch.tensor(t, device=self.device)))
            drawn = (p.cumsum(dim=-1).double() <= u[..., None]).sum(dim=-1)
            # Where rounding leaves no cumulative probability above u, the last possible token.
            possible = last - (p.flip(-1) > 0).long().argmax(dim=-1)
            a = torch.minimum(drawn, possible)
            rows[..., t], tokens[..., t], mask[..., t] = s.where(going, 0), a.where(going, 0), going
            node = torch.where(going, world.onto[at, a], node)
        reward = world.reward[node - len(world.row)]
        logp_old = log_old[replicate[..., None], rows, tokens].where(mask, 0.0)
        sampler = None
        if self.settings.sampler is not None:
            sampler = log_pi[replicate[..., None], rows, tokens].where(mask, 0.0)
        reference = None if self.logp_ref is None else self.logp_ref[rows, tokens].where(mask, 0.0)
        mean = std = None
        if self.needs_moments:
            mean, std = (x.gather(1, prompt)[..., None] for x in self.outcome_moments(pi))
        known = (logp_old, mask, reward, reference, mean, std, T, sampler, tokens)
        return Drawn(rows, tokens, GroupArrays(*known))

    def uniform(self, bits: Tensor) -> Tensor:
        return fraction_bits(bits).double() * UNIT

    def advance(self, last: int) -> np.ndarray:
        """Takes the outer steps up to `last`; ||Delta||^2 of the last one."""
        moved = self.theta.new_zeros(len(self.theta))
        for n in range(self.state.step, last):
            moved = self.outer_step(n)
        self.state.step = last
        self.state.frozen[...] = self.frozen.cpu().numpy()
        return moved.double().cpu().numpy()

    def outer_step(self, n: int) -> Tensor:
        settings, start, each = self.settings, self.theta, self.each[:, None, None, None]
        K, B = settings.inner_steps, settings.num_batches
        log_old, pi = torch.log_softmax(start, dim=-1), torch.softmax(start, dim=-1)
        drawn = (pi, log_old)
        if settings.sampler is not None:
            drawn_from = self.drawn_from(start)
            drawn = torch.softmax(drawn_from, dim=-1), torch.log_softmax(drawn_from, dim=-1)
        _, slope = self.gradient(pi)
        step_key = child(self.keys, torch.tensor(n, device=self.device))
        batches = [self.draw(step_key, *drawn, log_old, b) for b in range(B)]
        by_batch = [
            weights_in_step(settings.estimator, each.groups, n, self.state.refusals) for each in batches
        ]
        theta, alive, sums = start, self.frozen < 0, []
        for k in range(K):
            rows, tokens, groups = batches[k % B]
            log_rows = torch.log_softmax(theta[each, rows], dim=-1)
            logp = log_rows.gather(-1, tokens[..., None])[..., 0].where(groups.mask, 0.0)
            c = by_batch[k % B](logp.where(alive[:, None, None, None], groups.logp_old))
            c = c.where(alive[:, None, None, None] & groups.mask, 0.0)
            score = pi[each, rows] if self.score_at_start else log_rows.exp()
            taken = torch.nn.functional.one_hot(tokens, pi.shape[-1]).to(self.dtype)
            g_hat = torch.zeros_like(theta).index_put_(
                (each.expand_as(rows), rows), c[..., None] * (taken - score), accumulate=True
            )
            if k == 0:
                sums = [(slope * g_hat).sum(dim=(1, 2)), g_hat.square().sum(dim=(1, 2))]
            after = self.ascend(theta, g_hat, settings.learning_rates[n], n * K + k + 1)
            whole = ((after.abs() < self.largest) | (after == theta)).flatten(1).all(dim=1)
            self.frozen = torch.where(alive & ~whole, n, self.frozen)
            alive = alive & whole
            theta = torch.where(alive[:, None, None], after, start)
        self.theta = theta
        delta = (theta - start).where(theta != start, 0.0)
        sums = [(slope * delta).sum(dim=(1, 2)), delta.square().sum(dim=(1, 2)), *sums]
        self.totals += torch.stack(sums, dim=-1).where(alive[:, None], 0.0)
        return sums[1]

    def ascend(self, theta: Tensor, g_hat: Tensor, learning_rate: float, count: int) -> Tensor:
        """theta + eta g_hat, or Adam's step number `count`."""
        adam = self.settings.optimizer
        if adam is None:
            return theta + learning_rate * g_hat
        first, second = self.moments
        first.mul_(adam.beta1).add_(g_hat, alpha=1 - adam.beta1)
        second.mul_(adam.beta2).addcmul_(g_hat, g_hat, value=1 - adam.beta2)
        spread = second.sqrt() / (1 - adam.beta2**count) ** 0.5 + adam.epsilon
        return theta + learning_rate / (1 - adam.beta1**count) * first / spread
