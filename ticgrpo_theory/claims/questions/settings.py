"""What a question is about: a world, its policies, a group size, and what is measured there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ticgrpo_theory.claims.questions.losses import k2
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.estimator import Estimator
from ticgrpo_theory.exact.expectation import expected_gradient
from ticgrpo_theory.exact.moments.estimator_moments import gradient_moments
from ticgrpo_theory.exact.objective import policy_gradient
from ticgrpo_theory.stats.direction import against
from ticgrpo_theory.worlds.catalogue import WORLDS, graded
from ticgrpo_theory.worlds.mdp import TokenMDP
from ticgrpo_theory.worlds.samplers import Sampler


class Setting(NamedTuple):
    """A world with its policies and group size, as text and as tables."""

    world: str
    mdp: TokenMDP
    theta: Tensor
    theta_old: Tensor
    G: int
    policies: str
    options: Mapping[str, Any] = MappingProxyType({})


AnyEstimator = Estimator | Callable[[Batch], Tensor]

Target = Callable[[Setting], Tensor]


def start(world: str, G: int = 2, eta: float = 0.0, **options: Any) -> Setting:
    """A world of the catalogue at its start, theta a step of eta away."""
    entry = WORLDS[world]
    mdp = entry.build()
    old = entry.theta_old(mdp)
    theta = old + eta * policy_gradient(mdp, old)
    return Setting(world, mdp, theta, old, G, f"start, eta = {eta:g}", options)


def two_prompts(G: int = 2, **options: Any) -> Setting:
    """An easy prompt with short right answers and a hard one with long ones, on rows of their own."""
    easy, hard = (
        TokenMDP.prefix_tree(vocab_size=3, horizon=3, eos=2, reward=lambda y, n=n: float(y.count(1) >= n))
        for n in (1, 2)
    )
    mdp = TokenMDP.mixture([easy, hard], [0.5, 0.5], share_rows=False)
    theta = graded(mdp)
    return Setting("easy, hard", mdp, theta, theta, G, "graded, on policy", options)


def drawn_by(sampler: Sampler, of: Setting) -> Setting:
    """The same with responses drawn by this function of theta_old."""
    options = {"theta_sampler": sampler(of.theta_old)}
    return of._replace(policies=f"{of.policies}, drawn by {sampler}", options=options)


def sixteen(G: int) -> Setting:
    """16 responses to prompts that are drawn, in groups of G."""
    return two_prompts(G, prompts=16 // G)


def gradient_of_return(setting: Setting) -> Tensor:
    """grad J(theta)."""
    return policy_gradient(setting.mdp, setting.theta)


def mean(setting: Setting, estimator: AnyEstimator) -> Tensor:
    """E[g_hat]."""
    given = setting.mdp, setting.theta, setting.theta_old, estimator, setting.G
    return expected_gradient(*given, explain=True, **setting.options).value


def measured(name: str) -> Callable[[Setting, AnyEstimator, Target], float]:
    """A measure of E[g_hat] beside grad J(theta)."""

    def measure(setting: Setting, estimator: AnyEstimator, target: Target) -> float:
        found = against(mean(setting, estimator), target(setting))[name]
        return 0.0 if found is None else found

    return measure


def snr(setting: Setting, estimator: AnyEstimator, target: Target) -> float:
    given = setting.mdp, setting.theta, setting.theta_old, estimator, setting.G
    return gradient_moments(*given, **setting.options).signal_to_noise


MEASURES = {**{name: measured(name) for name in ("cosine", "residual", "scale")}, "snr": snr}


@dataclass(frozen=True)
class Question:
    """A question, its threads, and its readings: (label, setting, estimator) each."""

    threads: str
    text: str
    measure: str
    readings: list[tuple[str, Setting, AnyEstimator]]
    target: Target = gradient_of_return


def gradient_of_entropy(setting: Setting) -> Tensor:
    """T grad H(pi), for one row that every token reads."""
    theta = setting.theta.clone().requires_grad_()
    logp = theta.log_softmax(-1)
    return torch.autograd.grad(-setting.mdp.horizon * (logp.exp() * logp).sum(), theta)[0]


def gradient_of_whole_penalty(setting: Setting) -> Tensor:
    return mean(setting, lambda b: k2(b, torch.ones((), dtype=b.logp.dtype)))
