"""theta along the mean of an estimator in the weights of a network, and how far that mean errs on the way.

    phi_0 = phi_old,    phi_{k+1} = phi_k + step(E[g_hat](phi_k)),    groups always drawn from phi_old

The step is plain, eta E[g_hat], or that of AdamW. Every gradient is one in all weights; inner products are
streamed. Copies of the weights at most: the weights, those of the start, grad J at the start, E[g_hat],
grad J, and E[g_hat] of the start for estimators with scores at theta_old; two more for AdamW.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llm.exact_model.exact_model import ExactModel
from llm.exact_model.inner_products import Gradient, check_memory, gram
from ticgrpo_theory.estimators.catalogue import ESTIMATORS
from ticgrpo_theory.estimators.estimator import old
from ticgrpo_theory.exact.answers import Problem
from ticgrpo_theory.exact.clip_fraction import clip_fractions
from ticgrpo_theory.exact.objective import expected_return, policy_gradient
from ticgrpo_theory.stats.rounding import ROUNDING

COPIES = {"plain": 6, "adamw": 8}
"""Copies of the weights that a path holds at most."""

ADAMW = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
"""The optimiser of the published runs; see llm/configs."""


@dataclass(frozen=True)
class Step:
    """How a gradient moves the weights."""

    optimizer: str
    """plain or adamw."""
    eta: float
    """Learning rate."""

    def __post_init__(self) -> None:
        if self.optimizer not in COPIES:
            raise ValueError(f"optimizer = {self.optimizer!r}: choose one of {', '.join(COPIES)}")
        if not 0 < self.eta < math.inf:
            raise ValueError(f"eta = {self.eta}: a learning rate is finite and above 0")

    def of(self, parameters: list[Any]) -> torch.optim.Optimizer:
        """An optimiser that goes uphill, one tensor at a time: none holds a copy of all."""
        if self.optimizer == "plain":
            return torch.optim.SGD(parameters, lr=self.eta, maximize=True, foreach=False)
        return torch.optim.AdamW(parameters, lr=self.eta, maximize=True, foreach=False, **ADAMW)


class Start:
    """The weights of theta_old with grad J there: what all paths from it share."""

    def __init__(self, model: ExactModel, optimizer: str = "adamw") -> None:
        """Raises ValueError where memory does not suffice for the paths of that optimiser."""
        first = model.parameters[0]
        check_memory(model.size, first.element_size(), COPIES[optimizer] - 1, first.device)
        self.model = model
        self.weights = [parameter.detach().clone() for parameter in model.parameters]
        table = model.table()
        self.theta = model.policy_of(table)
        self.cotangent = policy_gradient(model.mdp, self.theta)
        self.gradient = model.pull(table, self.cotangent)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back."""
        for parameter, kept in zip(self.model.parameters, self.weights, strict=True):
            parameter.copy_(kept)
        self.model.write_back()

    @torch.no_grad()
    def drift(self) -> float:
        """||phi - phi_old||."""
        total = 0.0
        for parameter, kept in zip(self.model.parameters, self.weights, strict=True):
            total += float((parameter - kept).square_().sum(dtype=torch.float64))
        return math.sqrt(total)


def weight_path(start: Start, name: str, group_size: int, step: Step, K: int) -> list[dict[str, Any]]:
    """The columns of `bias_vs_K` in the weights at k = 0..K, with what the policy does.

    Also `expected_return`, `gradient_norm` ||grad J(phi_k)||, and mean and sd of log w' under theta_old.
    The weights are put back at the end. Raises ValueError for an estimator whose score is at theta_old and
    whose mean moves with theta all the same: that mean is a gradient at other weights.
    """
    try:
        return list(_points(start, name, group_size, step, K))
    finally:
        start.restore()


def _points(start: Start, name: str, group_size: int, step: Step, K: int) -> Iterator[dict[str, Any]]:
    model, estimator = start.model, ESTIMATORS[name]
    optimizer, scale, kept = step.of(model.parameters), (1.0, "none"), None
    first = Problem(model.mdp, start.theta, start.theta, estimator, group_size)
    path: list[Tensor] = []
    for k in range(K + 1):
        table = model.table()
        theta = model.policy_of(table) if k else start.theta
        path.append(theta)
        problem = first.at(theta) if k else first
        if k == 0:
            gradient, mean = start.gradient, first_mean(start, table, first)
            scale = scale_of(first, mean, gradient)
            kept = mean if estimator.score is old else None
        else:
            gradient = model.pull(table, problem.gradient, keep=True)
            if kept is None:
                mean = model.pull(table, problem.mean)
            elif float((problem.mean - first.mean).norm()) <= ROUNDING * float(first.mean.norm()):
                mean = kept
            else:
                raise ValueError(
                    f"{name} takes scores at theta_old and its mean moves with theta: not followed"
                )
        del table
        found = distances(mean, gradient, start.gradient, scale[0])
        about = {"estimator": name, "optimizer": step.optimizer, "eta": step.eta, "k": k}
        clip = clip_fractions(model.mdp, [theta], start.theta, estimator, group_size)[0]
        log_ratio = log_ratio_moments(problem)
        del gradient
        yield {
            **about,
            **found,
            "scale": scale[0],
            "scale_kind": scale[1],
            "clip_fraction": clip,
            "drift": start.drift(),
            "expected_return": float(expected_return(model.mdp, theta)),
            "log_ratio_mean": log_ratio[0],
            "log_ratio_sd": log_ratio[1],
        }
        if k < K:
            for parameter, part in zip(model.parameters, mean, strict=True):
                parameter.grad = part
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        del mean


def first_mean(start: Start, table: Tensor, problem: Problem) -> Gradient:
    """E[g_hat] at theta_old: a multiple of grad J where the two tables are, else from a backward pass."""
    c = float((problem.mean * start.cotangent).sum() / start.cotangent.square().sum())
    if float((problem.mean - c * start.cotangent).norm()) <= ROUNDING * abs(c) * float(
        start.cotangent.norm()
    ):
        return [c * part for part in start.gradient]
    return start.model.pull(table, problem.mean)


def scale_of(problem: Problem, mean: Gradient, gradient: Gradient) -> tuple[float, str]:
    """(c, kind) of `known_scale`; by least squares in the weights where it is not known."""
    c, kind = problem.scale
    if kind != "least_squares":
        return c, kind
    G = gram([mean, gradient])
    return float(G[0, 1] / G[1, 1]), kind


def distances(mean: Gradient, now: Gradient, before: Gradient, c: float) -> dict[str, float]:
    """How far E[g_hat] is from grad J, and from c grad J, at theta and at theta_old, and their angles.

    All from the inner products of x = E[g_hat] - c grad J, grad J and grad J(theta_old): what is close to
    c grad J keeps its digits; other differences are known to 1e-8 of the mean.
    """
    G = gram([mean, now, before], minus=c)

    def norm(*coefficients: float | int) -> float:
        v = torch.tensor(coefficients, dtype=torch.float64)
        return math.sqrt(max(0.0, float(v @ G @ v)))

    return {
        "bias_current": norm(1, c - 1, 0),
        "bias_old": norm(1, c, -1),
        "bias_current_scaled": norm(1, 0, 0),
        "bias_old_scaled": norm(1, c, -c),
        "direction_error_current": direction_error(norm(1, c, 0), norm(0, 1, 0), norm(1, 0, 0), c),
        "direction_error_old": direction_error(norm(1, c, 0), norm(0, 0, 1), norm(1, c, -c), c),
        "gradient_norm": norm(0, 1, 0),
    }


def direction_error(mean: float, gradient: float, apart: float, c: float) -> float:
    """1 - cos = (apart^2 - (mean - c gradient)^2) / (2 mean c gradient), of norms with apart = ||mean - c
    gradient||; NaN for a zero vector."""
    size = mean * c * gradient
    return math.nan if size == 0 else max(0.0, (apart**2 - (mean - c * gradient) ** 2) / (2 * size))


def log_ratio_moments(problem: Problem) -> tuple[float, float]:
    """Mean and standard deviation of log w' = log pi_theta(y) / pi_old(y), y drawn by theta_old."""
    mean = square = 0.0
    for weight, prompt in problem.parts:
        every = prompt.listed_responses
        log_w = ((every.logp - every.logp_old) * every.mask).sum(dim=-1)
        mean += weight * float((every.prob * log_w).sum())
        square += weight * float((every.prob * log_w.square()).sum())
    return mean, math.sqrt(max(0.0, square - mean**2))
