"""Inner updates per second of `simulate` against PyTorch loops: V = 4, T = 6, G = 16, K = 4, in one process.

    python benchmarks/simulator.py        # about two minutes on two cores: all ratios, and the scaling

`simulate` also accumulates the exact <grad J, Delta> and ||Delta||^2 of every outer step; the loops do not.
"""

import time
from collections.abc import Callable
from statistics import median

import baselines_simulator as baselines
import torch
from baselines_simulator import Case

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.simulate.passes.uniforms import UNIT, child, fraction_bits, key
from ticgrpo_theory.stats.rng import stream

V, T, G, K = 4, 6, 16, 4
ETA = 0.05
OBJECTIVES = {"grpo": baselines.grpo, "tic_grpo": baselines.tic_grpo}
ROUNDS = 7


def world(horizon: int = T) -> TokenMDP:
    """Right answers at random, one in three."""
    drawn = torch.rand(V**horizon, generator=stream(0, "benchmarks", "simulator"), dtype=torch.float64)
    return TokenMDP.prefix_tree(vocab_size=V, horizon=horizon, reward=(drawn < 1 / 3).double())


MDP = world()
THETA = 0.3 * torch.randn(MDP.num_rows, V, generator=stream(0, "benchmarks", "theta"), dtype=torch.float64)


def case(name: str) -> Case:
    return Case(V, T, torch.from_numpy(MDP.graph.reward), G, K, ETA, OBJECTIVES[name])


def free_numbers(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64)


class CountedNumbers:
    """The numbers that `simulate` draws, outer step after outer step."""

    def __init__(self) -> None:
        self.step = 0

    def __call__(self, shape: tuple[int, ...]) -> torch.Tensor:
        R, groups, tokens = (torch.arange(n) for n in shape)
        step = child(child(torch.tensor(key(0, "simulate")), R), torch.tensor(self.step))
        self.step += 1
        return fraction_bits(child(child(step[:, None], groups)[..., None], tokens)).double() * UNIT


def ours(name: str, replicates: int, outer_steps: int, engine: str = "auto", **changes) -> torch.Tensor:
    run = {"group_size": G, "inner_steps": K, "learning_rate": ETA, "record_every": outer_steps, **changes}
    mdp, theta = run.pop("mdp", MDP), run.pop("theta", THETA)
    return simulate(
        mdp,
        theta,
        ESTIMATORS[name],
        replicates=replicates,
        outer_steps=outer_steps,
        engine=engine,
        **run,
    ).theta


def theirs(
    baseline: Callable, name: str, replicates: int, outer_steps: int, draw=free_numbers
) -> torch.Tensor:
    theta = THETA if baseline is baselines.one_replicate else THETA.expand(replicates, -1, -1)
    return baseline(case(name), theta, outer_steps, draw)


def check_same(baseline: Callable, name: str) -> None:
    """Both sides take the same steps when they are given the same numbers."""
    R = 1 if baseline is baselines.one_replicate else 3
    gap = (ours(name, R, 3) - theirs(baseline, name, R, 3, CountedNumbers())).abs().max().item()
    if gap > 1e-9:
        raise ValueError(f"after 3 outer steps of {name} the logits differ by {gap:.3g}: nothing to compare")


def seconds(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def compare(baseline: Callable, name: str, replicates: int, their_steps: int, our_steps: int = 200) -> float:
    """Ratio of updates per second, medians of rounds in which both take turns."""
    check_same(baseline, name)
    their_replicates = 1 if baseline is baselines.one_replicate else replicates
    ours(name, replicates, 20)
    theirs(baseline, name, their_replicates, 2)
    own, other, ratios = [], [], []
    for _ in range(ROUNDS):
        # What a call takes before its first step is not counted on either side.
        idle = seconds(lambda: ours(name, replicates, 1))
        longer = seconds(lambda: ours(name, replicates, our_steps + 1))
        own.append(replicates * our_steps * K / (longer - idle))
        other.append(
            their_replicates
            * their_steps
            * K
            / seconds(lambda: theirs(baseline, name, their_replicates, their_steps))
        )
        ratios.append(own[-1] / other[-1])
    print(
        f"{name}, R = {replicates}: {median(own):,.0f} inner updates/s; {baseline.__name__} "
        f"{median(other):,.0f}; ratio {median(ratios):.1f}"
    )
    return median(ratios)


def simulator_vs_naive() -> float:
    """Updates/s of simulate (R = 64) / of a plain PyTorch loop with autograd, one replicate; GRPO."""
    return compare(baselines.one_replicate, "grpo", 64, 60)


def simulator_vs_batched_table() -> float:
    """Updates/s of simulate / of batched PyTorch with autograd through the table; GRPO, R = 64."""
    return compare(baselines.batched_table, "grpo", 64, 6)


def simulator_vs_batched() -> float:
    """Updates/s of simulate / of batched PyTorch with autograd on log-probabilities; GRPO, R = 64."""
    return compare(baselines.batched_by_hand, "grpo", 64, 30)


def simulator_vs_batched_256() -> float:
    """Updates/s of simulate / of batched PyTorch with autograd on log-probabilities; GRPO, R = 256."""
    return compare(baselines.batched_by_hand, "grpo", 256, 15, 100)


def simulator_vs_batched_tic_256() -> float:
    """Updates/s of simulate / of batched PyTorch with autograd on log-probabilities; TIC-GRPO, R = 256."""
    return compare(baselines.batched_by_hand, "tic_grpo", 256, 15, 100)


def scaling() -> None:
    """Microseconds per outer step and replicate as R, G, T, K double: cost is linear in each."""
    for name, values in (("R", (64, 128, 256)), ("G", (16, 32, 64)), ("K", (4, 8, 16)), ("T", (3, 6))):
        for value in values:
            changes: dict = {"group_size": value} if name == "G" else {}
            changes |= {"inner_steps": value} if name == "K" else {}
            if name == "T":
                mdp = world(value)
                changes |= {"mdp": mdp, "theta": torch.zeros(mdp.num_rows, V)}
            R = value if name == "R" else 64
            ours("grpo", R, 2, **changes)
            times = [
                seconds(lambda R=R, c=changes: ours("grpo", R, 101, **c))
                - seconds(lambda R=R, c=changes: ours("grpo", R, 1, **c))
                for _ in range(5)
            ]
            print(f"{name} = {value}: {median(times) / 100 / R * 1e6:.2f} us per outer step and replicate")


def engines() -> None:
    """Updates per second of each engine."""
    for engine in ("compiled", "hybrid", "tensors"):
        for R in (64, 256):
            ours("grpo", R, 2, engine)
            long = min(seconds(lambda R=R, e=engine: ours("grpo", R, 41, e)) for _ in range(5))
            short = min(seconds(lambda R=R, e=engine: ours("grpo", R, 1, e)) for _ in range(5))
            print(f"engine {engine}, R = {R}: {R * 40 * K / (long - short):,.0f} inner updates/s")


BENCHMARKS = {
    f.__name__: f
    for f in (
        simulator_vs_naive,
        simulator_vs_batched_table,
        simulator_vs_batched,
        simulator_vs_batched_256,
        simulator_vs_batched_tic_256,
    )
}

if __name__ == "__main__":
    for benchmark in BENCHMARKS.values():
        benchmark()
    engines()
    scaling()
