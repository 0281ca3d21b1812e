"""Whole updates: every update that there is against a loop over them, and what coupling costs a pass.

python benchmarks/updates.py        # about 30 s on one core
"""

import itertools
import time
from dataclasses import replace
from statistics import median

import torch
from groups import one_thread

from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.clipping import two_sided
from ticgrpo_theory.estimators.corrections import truncated
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import batch_token_mean, sequence_mean
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.stats.rng import stream

P, G = 2, 4
TURNS = 5
LOOPED = 400
"""Updates that the loop goes through; the rest is extrapolated by count."""


def two_prompts() -> tuple[TokenMDP, torch.Tensor, torch.Tensor]:
    """Responses 00, 01, 1 to two prompts of one table, and two policies."""
    each = [
        TokenMDP.prefix_tree(vocab_size=2, horizon=2, eos=1, reward=r) for r in ([1.0, 0, 0], [1.0, 1, 0])
    ]
    world = TokenMDP.mixture(each, [0.5, 0.5], share_rows=True)
    generator = stream(0, "benchmarks", "updates")
    old = 0.3 * torch.randn(2, 2, generator=generator, dtype=torch.float64)
    return world, old + 0.3 * torch.randn(2, 2, generator=generator, dtype=torch.float64), old


def objective(batch: Batch) -> torch.Tensor:
    """Rewards minus their mean over the batch, clipped ratios, one normaliser for all tokens."""
    A = (batch.reward - batch.reward.mean())[:, None]
    ratio = (batch.logp - batch.logp_old).exp()
    return torch.minimum(ratio * A, ratio.clamp(0.8, 1.2) * A).where(batch.mask, 0.0).sum() / batch.mask.sum()


def looped(
    world: TokenMDP, theta: torch.Tensor, old: torch.Tensor, G: int, count: int | None
) -> tuple[torch.Tensor, int]:
    """The mean over the first ordered updates, one autograd call each, and how many there are."""
    paths = [prompt.graph.paths for _, prompt in world.prompts]
    logits = theta.clone().requires_grad_()
    tables = [(torch.from_numpy(p.rows), torch.from_numpy(p.tokens), torch.from_numpy(p.mask)) for p in paths]
    old_logp = [torch.log_softmax(old, -1)[rows, tokens] for rows, tokens, _ in tables]
    prob = [x.where(mask, 0.0).sum(1).exp() for x, (_, _, mask) in zip(old_logp, tables, strict=True)]
    graphs = [prompt.graph for _, prompt in world.prompts]
    reward = [torch.from_numpy(g.reward[p.outcome]) for g, p in zip(graphs, paths, strict=True)]
    total, N = torch.zeros_like(theta), len(reward[0])
    every = itertools.product(
        itertools.product(range(2), repeat=P), itertools.product(range(N), repeat=P * G)
    )
    group = torch.arange(P).repeat_interleave(G)
    for prompts, members in itertools.islice(every, count):
        q = [prompts[i // G] for i in range(P * G)]
        now = torch.log_softmax(logits, -1)
        parts = [
            (now[tables[a][0][n], tables[a][1][n]], old_logp[a][n], reward[a][n], tables[a][2][n])
            for a, n in zip(q, members, strict=True)
        ]
        batch = Batch(*map(torch.stack, zip(*parts, strict=True)), horizon=2, group=group)
        chance = 0.5**P * float(torch.stack([prob[a][n] for a, n in zip(q, members, strict=True)]).prod())
        total += chance * torch.autograd.grad(objective(batch), logits)[0]
    return total, (2 * N**G) ** P


@one_thread()
def updates_vs_loop() -> float:
    """CPU time of a Python loop over ordered updates (extrapolated) / expected_gradient(scope="batch").

    One callable objective of the whole batch, (P, G) = (2, 4) with three responses to each of two prompts:
    26,244 ordered updates. Ours answers for them all, with its checks.
    """
    world, theta, old = two_prompts()

    def ours() -> torch.Tensor:
        return expected_gradient(world, theta, old, objective, G, prompts=P, scope="batch")

    _, count = looped(world, theta, old, G, 1)
    whole, _ = looped(world, theta, old, 2, None)
    gap = float(
        (whole - expected_gradient(world, theta, old, objective, 2, prompts=P, scope="batch")).abs().max()
    )
    ours()
    if gap > 1e-12:
        raise ValueError(f"the two ways differ by {gap:.3g}: there is nothing to compare")
    ratios = []
    for _ in range(TURNS):
        start = time.process_time()
        looped(world, theta, old, G, LOOPED)
        each = (time.process_time() - start) / LOOPED
        start = time.process_time()
        ours()
        own = time.process_time() - start
        ratios.append(each * count / own)
        print(
            f"updates, (P, G) = ({P}, {G}), {count:,} ordered ones: {own * 1e3:.1f} ms; one at a time "
            f"{each * 1e3:.2f} ms each; ratio {ratios[-1]:.0f}"
        )
    return median(ratios)


@one_thread()
def update_token_mean_vs_pass() -> float:
    """CPU time of a token mean over P = 64 groups of 16 / of a sequence mean of one group, both dynamic.

    Smaller is better. Up to 128 tokens, 2,048 states a layer, an end token, binary rewards.
    """
    V, T, Q = 4, 128, 2048
    generator = stream(0, "benchmarks", "update token mean")
    moves = torch.randint(0, Q, (Q, V), generator=generator).numpy()
    world = TokenMDP.automaton(moves, V, T, lambda q, n: float(q % 3 == 0), rows="state", eos=0)
    old = 0.2 * torch.randn(world.num_rows, V, generator=generator, dtype=torch.float64)
    old[:, 0] -= 3.0
    theta = old + 0.2 * torch.randn(world.num_rows, V, generator=generator, dtype=torch.float64)
    clip = two_sided(0.2, 0.2)
    coupled, plain = (Estimator(token, standardised(), clip, s) for s in (batch_token_mean, sequence_mean))

    def timed(estimator: Estimator, prompts: int | None) -> float:
        start = time.process_time()
        expected_gradient(world, theta, old, estimator, 16, prompts=prompts)
        return time.process_time() - start

    timed(coupled, 64), timed(plain, None)
    runs = [(timed(coupled, 64), timed(plain, None)) for _ in range(TURNS)]
    whole, one = (median(run[side] for run in runs) for side in (0, 1))
    print(
        f"token mean over 64 groups {whole * 1e3:.0f} ms, sequence mean {one * 1e3:.0f} ms; ratio "
        f"{whole / one:.2f}"
    )
    return whole / one


@one_thread()
def correction_vs_pass() -> float:
    """CPU time of grpo with a third policy and a token correction / of grpo alone, both dynamic.

    Smaller is better. 64 tokens of a vocabulary of 256, 64 states with a row of their own at every depth.
    """
    V, T, Q = 256, 64, 64
    generator = stream(0, "benchmarks", "correction")
    moves = torch.randint(0, Q, (Q, V), generator=generator).numpy()
    world = TokenMDP.automaton(moves, V, T, lambda q, n: float(q % 2), rows="time_state")
    theta, old, sampler = (
        0.3 * torch.randn(world.num_rows, V, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    plain = ESTIMATORS["grpo"]
    corrected = replace(plain, correction=truncated("token", None, 1.2))

    def timed(estimator: Estimator, drawn: torch.Tensor | None) -> float:
        start = time.process_time()
        expected_gradient(world, theta, old, estimator, 8, theta_sampler=drawn)
        return time.process_time() - start

    timed(corrected, sampler), timed(plain, None)
    runs = [(timed(corrected, sampler), timed(plain, None)) for _ in range(3 * TURNS)]
    whole, one = (median(run[side] for run in runs) for side in (0, 1))
    spread = sorted(a / b for a, b in runs)
    print(
        f"three policies {whole * 1e3:.1f} ms, two {one * 1e3:.1f} ms; ratio {whole / one:.2f}, turn by turn "
        f"{spread[0]:.2f} to {spread[-1]:.2f}"
    )
    return whole / one


BENCHMARKS = {f.__name__: f for f in (updates_vs_loop, update_token_mean_vs_pass, correction_vs_pass)}

if __name__ == "__main__":
    for benchmark in BENCHMARKS.values():
        benchmark()
