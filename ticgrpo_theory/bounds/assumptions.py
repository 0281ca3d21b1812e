"""Assumptions 5.1 to 5.3 of arXiv:2508.02833 v2 for a world: proved constants beside what a search finds.

    L_0   ||grad log pi(a|s; theta) - grad log pi(a|s; theta')|| <= L_0 ||theta - theta'||   (Lipschitz score)
    L     ||grad J(theta) - grad J(theta')|| <= L ||theta - theta'||                         (smooth J)
    R     |r| <= R                                                                           (bounded reward)

The paper exchanges the bodies of its Assumptions 5.1 and 5.2: "Lipschitz score" has the body of grad
KL(pi_theta || pi_ref), and "smooth KL" that of the score, both with L_0; at beta = 0 the former is idle.
Smoothness of J is no assumption of it; the proofs use it, and it follows. For a table of logits L_0 = 1/2,
the largest eigenvalue of diag(pi) - pi pi^T, attained where two tokens have probability 1/2; the score
itself is below sqrt 2; and L <= rho d_max.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ticgrpo_theory.bounds.constants import instance_constants
from ticgrpo_theory.bounds.geometry import geometry
from ticgrpo_theory.exact.responses.many_policies import Unrolled, returns_and_gradients, unroll
from ticgrpo_theory.inputs.numbers import integer
from ticgrpo_theory.stats.rng import stream
from ticgrpo_theory.worlds.mdp import TokenMDP

DIFFERENCE = 1e-4
"""Step of the central difference of grad J along a direction: its error is of order 1e-8."""


@dataclass(frozen=True)
class Constant:
    """A constant of an assumption: proved, and the largest value found by a search."""

    assumption: str
    bounds: str
    proved: float
    exact: bool
    """Whether no smaller number would do."""
    found: float
    reason: str


def assumptions(mdp: TokenMDP, tries: int = 32, seed: int = 0) -> dict[str, Constant]:
    """Constants "L_0", "score", "L" and "R" of this world; the search starts at `tries` random policies.

    Raises ValueError for fewer than one try, and for too many responses to be listed.
    """
    if integer("tries", tries, 1, "policies that the search starts from") < 1:
        raise ValueError(f"tries = {tries}: the search needs at least one policy to start from")
    largest = max(max(abs(float(p.rewards[0])), abs(float(p.rewards[-1]))) for p in geometry(mdp).prompts)
    several = mdp.vocab_size > 1
    constants, found = instance_constants(mdp), searched(mdp, tries, stream(seed, "bounds", "assumptions"))
    return {
        "L_0": Constant(
            "5.1 by its name, the body printed under 5.2",
            "Lipschitz constant of the score of a token",
            0.5 if several else 0.0,
            True,
            found["L_0"],
            "attained where two tokens have probability 1/2",
        ),
        "score": Constant(
            "none: for GRPO a bounded score is needed besides 5.1",
            "norm of the score of a token",
            math.sqrt(2) if several else 0.0,
            True,
            found["score"],
            "approached where a token has probability 0",
        ),
        "L": Constant(
            "none: smoothness of J follows",
            "Lipschitz constant of grad J",
            constants.L_J,
            constants.L_J == 0,
            found["L"],
            f"rho d_max; d_max is {constants.notes['d_max']}",
        ),
        "R": Constant("5.3", "|r|", largest, True, largest, "the largest reward of a response"),
    }


def searched(mdp: TokenMDP, tries: int, generator: torch.Generator) -> dict[str, float]:
    """The largest turning and score of a token, and the largest curvature of J, that walks come upon."""
    table = (mdp.num_rows, mdp.vocab_size)
    prompts = unroll(mdp, torch.zeros(table, dtype=torch.float64), None)
    spread = torch.logspace(-2, 1, tries, dtype=torch.float64)[:, None, None]
    starts = spread * torch.randn(tries, *table, generator=generator, dtype=torch.float64)
    measures = {"L_0": turning, "score": score, "L": lambda theta: curvature(prompts, theta, generator)}
    return {name: climb(measure, starts, generator) for name, measure in measures.items()}


Measure = Callable[[Float[Tensor, "n S V"]], Float[Tensor, " n"]]


def climb(measure: Measure, starts: Float[Tensor, "n S V"], generator: torch.Generator) -> float:
    """Largest value of `measure` met on random walks that keep what is larger, with steps that shrink."""
    theta, value = starts, measure(starts)
    for step in torch.logspace(0.5, -2.5, 40, dtype=torch.float64):
        tried = theta + step * torch.randn(theta.shape, generator=generator, dtype=torch.float64)
        new = measure(tried)
        better = new > value
        theta = torch.where(better[:, None, None], tried, theta)
        value = torch.where(better, new, value)
    return float(value.max())


def turning(theta: Float[Tensor, "n S V"]) -> Float[Tensor, " n"]:
    """max_s ||diag(pi_s) - pi_s pi_s^T||: how fast the score of a token turns."""
    pi = torch.softmax(theta, dim=-1)
    H = torch.diag_embed(pi) - pi[..., :, None] * pi[..., None, :]
    return torch.linalg.eigvalsh(H)[..., -1].amax(dim=-1)


def score(theta: Float[Tensor, "n S V"]) -> Float[Tensor, " n"]:
    """max_{s,a} ||e_a - pi_s||."""
    pi = torch.softmax(theta, dim=-1)
    one = torch.eye(pi.shape[-1], dtype=pi.dtype)
    return (one - pi[..., None, :]).norm(dim=-1).amax(dim=(-1, -2))


def curvature(
    prompts: list[Unrolled], theta: Float[Tensor, "n S V"], generator: torch.Generator
) -> Float[Tensor, " n"]:
    """||grad^2 J||, from below: power iteration on central differences of the exact gradient."""
    u = torch.randn(theta.shape, generator=generator, dtype=torch.float64)
    size = torch.zeros(len(theta), dtype=torch.float64)
    for _ in range(12):
        u = u / u.flatten(1).norm(dim=1).clamp(min=1e-300)[:, None, None]
        ahead = returns_and_gradients(prompts, theta + DIFFERENCE * u)[1]
        behind = returns_and_gradients(prompts, theta - DIFFERENCE * u)[1]
        u = (ahead - behind) / (2 * DIFFERENCE)
        size = u.flatten(1).norm(dim=1)
    return size
