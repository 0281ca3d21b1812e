"""Odd inputs of policies, group sizes, estimators, runs and bounds."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from tests.unit.odd_cases import Odd
from ticgrpo_theory.bounds import instance_constants
from ticgrpo_theory.estimators import ESTIMATORS, Estimator
from ticgrpo_theory.estimators.advantages import standardised
from ticgrpo_theory.estimators.batch import Batch
from ticgrpo_theory.estimators.catalogue import grpo, tic_grpo
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.estimators.losses import from_loss
from ticgrpo_theory.estimators.penalties import k3, kl_loss
from ticgrpo_theory.estimators.ratios import token
from ticgrpo_theory.estimators.scales import sequence_mean
from ticgrpo_theory.exact import (
    decompose,
    expected_gradient,
    expected_return,
    gradient_moments,
    policy_gradient,
    reuse_bias,
)
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.worlds import WORLDS as NAMED

MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
ZERO = [[0.0, 0.0]]
LOGITS = [[1.0, 0.0]]
NEAR = [[0.125, 0.0]]
"""Within the clip of a policy of equal logits."""
J = 1 / (1 + math.exp(-1.0))
TABLE = torch.tensor(LOGITS, dtype=torch.float64)


def returned(theta: Any, mdp: Any = MDP) -> Callable[[], float]:
    return lambda: expected_return(mdp, theta)


def mean(
    theta: Any = NEAR, theta_old: Any = ZERO, estimator: Any = "dr_grpo", G: Any = 4, **more: Any
) -> Callable:
    """E[g_hat] of the logit of token 0: squared, so that the sum over a row is not 0."""
    return lambda: expected_gradient(MDP, theta, theta_old, estimator, G, **more).square().sum()


def run(**changes: Any) -> Callable[[], float]:
    arguments: dict[str, Any] = {
        "group_size": 4,
        "learning_rate": 0.1,
        "inner_steps": 1,
        "outer_steps": 2,
        "replicates": 2,
        "engine": "tensors",
    } | changes
    theta = arguments.pop("theta", LOGITS)
    return lambda: simulate(MDP, theta, "dr_grpo", **arguments).theta.square()


def reuse(G: Any = 2, K: Any = 1, eta: Any = 0.1, **more: Any) -> Callable:
    return lambda: reuse_bias(MDP, LOGITS, "grpo", G, K, eta, **more).expected_return


def constant(*arguments: Any) -> Callable:
    return lambda: instance_constants(MDP, "grpo", *arguments).L_J


POLICIES = {
    "theta as a string": Odd(returned("abc"), r"theta = 'abc' is no table of numbers.*\(S, V\) = \(1, 2\)"),
    "theta is None": Odd(returned(None), r"theta = None is no table of numbers.*\(S, V\) = \(1, 2\)"),
    "theta in a dict": Odd(returned({0: [0.0, 0.0]}), r"theta = \{0: .* is no table of numbers"),
    "theta of strings": Odd(returned([["a", "b"]]), r"theta = \[\['a', 'b'\]\] is no table of numbers"),
    "theta of numbers in strings": Odd(
        returned([["1", "0"]]), r"theta = \[\['1', '0'\]\] is no table of numb"
    ),
    "ragged theta": Odd(returned([[0.0, 0.0], [0.0]]), r"theta = \[\[0.0, 0.0\], \[0.0\]\] is no table"),
    "theta too large for float64": Odd(
        returned([[10**400, 0]]), r"theta = \[\[1000.* is no table of numbers"
    ),
    "complex theta": Odd(returned(TABLE + 1j), r"theta is complex .*imaginary.*theta\.real"),
    "complex theta of NumPy": Odd(
        returned(np.array([[1j, 0.0]])), r"theta is complex .*imaginary.*theta\.real"
    ),
    "complex theta in a list": Odd(returned([[1j, 0.0]]), r"theta is complex .*imaginary.*theta\.real"),
    "sparse theta": Odd(returned(TABLE.to_sparse()), J),
    "theta of integers": Odd(returned(torch.tensor([[1, 0]])), J),
    "theta in float32 with a graph": Odd(returned(TABLE.float().requires_grad_()), J),
    "theta as a data frame": Odd(returned(pd.DataFrame(LOGITS)), J),
    "theta as a list of tensors": Odd(returned([torch.tensor([1.0, 0.0])]), J),
    "theta of bools": Odd(returned(torch.tensor([[True, False]])), r"theta has dtype torch.bool.*give"),
    "theta of another shape": Odd(returned([1.0, 0.0]), r"theta has shape \(2,\); this world needs \(S, V\)"),
    "theta with NaN": Odd(
        returned([[math.nan, 0.0]]), r"theta\[0, 0\] = nan: logits must be finite, or -inf"
    ),
    "theta_old as a string": Odd(mean(theta_old="abc"), r"theta_old = 'abc' is no table of numbers"),
    "theta_ref as a string": Odd(mean(theta_ref="abc"), r"theta_ref = 'abc' is no table of numbers"),
    "a world by its name": Odd(
        returned(LOGITS, "xor"), r"mdp = 'xor' is no TokenMDP: .*WORLDS\['xor'\]\.build\(\)"
    ),
    "a world that was not built": Odd(
        returned(LOGITS, NAMED["xor"]), r"mdp = World.* is no TokenMDP: .*\.build\(\)"
    ),
    "a world that is None": Odd(lambda: policy_gradient(None, LOGITS), r"mdp = None is no TokenMDP: give"),
    "a method that there is not": Odd(
        lambda: expected_return(MDP, LOGITS, "exact"), r"method = 'exact'.*dynamic_programming.*enumeration"
    ),
}

WHOLE = r"a group has a whole number >= 1 of responses, or math\.inf"
GROUPS = {
    "G as a NumPy integer": Odd(mean(G=np.int64(4)), mean()),
    "G as a float that is whole": Odd(mean(G=4.0), mean()),
    "G of NumPy that is infinite": Odd(mean(G=np.float64("inf")), mean(G=math.inf)),
    "G as a string": Odd(mean(G="4"), rf"group_size = '4': {WHOLE}"),
    "G = 2.5": Odd(mean(G=2.5), rf"group_size = 2.5: {WHOLE}"),
    "G as a bool": Odd(mean(G=True), rf"group_size = True: {WHOLE}"),
    "G is None": Odd(mean(G=None), rf"group_size = None: {WHOLE}"),
    "G = 0": Odd(mean(G=0), rf"group_size = 0: {WHOLE}"),
    "G of moments as a string": Odd(
        lambda: gradient_moments(MDP, LOGITS, ZERO, "grpo", "4"), rf"group_size = '4': {WHOLE}"
    ),
    "G of terms as a bool": Odd(
        lambda: decompose(MDP, LOGITS, ZERO, "grpo", True), rf"group_size = True: {WHOLE}"
    ),
    "G of a reused group as a string": Odd(reuse(G="2"), rf"group_size = '2': {WHOLE}"),
    "G of a reused group as a NumPy integer": Odd(reuse(G=np.int32(2)), reuse()),
    "G of a run as a bool": Odd(run(group_size=True), "group_size = True must be a whole number >= 1"),
    "G of a run as a NumPy integer": Odd(run(group_size=np.int64(4)), run()),
    "G of constants as a string": Odd(constant("4"), rf"group_size = '4': {WHOLE}"),
}


def in_place(batch: Batch) -> torch.Tensor:
    batch.reward.mul_(2.0)
    return (batch.log_ratio.exp() * batch.reward[:, None]).mean()


def beside_autograd(batch: Batch) -> torch.Tensor:
    """NumPy writes to the memory of a tensor, and its version does not change."""
    batch.reward.numpy()[:] = 1.0
    return (batch.log_ratio.exp() * batch.reward[:, None]).mean()


def weights(logp: float) -> Callable:
    table = torch.full((2, 1), logp, dtype=torch.float64)
    batch = Batch(table, torch.zeros_like(table), table[:, 0], torch.ones(2, 1, dtype=torch.bool))
    return lambda: ESTIMATORS["grpo"].token_weights(batch)


ONE = r"give one of these"
CALLABLES = {
    "a factory that was not called": Odd(
        mean(estimator=grpo), r"the factory grpo was not called: give grpo\(\)"
    ),
    "a factory in the place of a name": Odd(
        lambda: ESTIMATORS[tic_grpo], r"unknown estimator .*tic_grpo.*ESTIMATORS\['tic_grpo'\]"
    ),
    "an estimator that is None": Odd(mean(estimator=None), rf"estimator None is neither .*{ONE}"),
    "the class Estimator": Odd(mean(estimator=Estimator), rf"estimator <class .* is neither .*{ONE}"),
    "a name that there is not": Odd(
        mean(estimator="grop"), "unknown estimator 'grop'; nearest names: .*grpo"
    ),
    "an objective that returns None": Odd(
        mean(estimator=lambda b: None), "returned None, which is no number.*return a scalar"
    ),
    "an objective that returns a string": Odd(
        mean(estimator=lambda b: "1"), "returned '1', which is no number.*return a scalar"
    ),
    "an objective that returns NaN": Odd(
        mean(estimator=lambda b: b.logp.sum() * math.nan), "the objective is nan"
    ),
    "an objective that returns a vector": Odd(
        mean(estimator=lambda b: b.logp.sum(dim=-1)), r"shape \(4,\).*scalar"
    ),
    "an objective that raises": Odd(
        mean(estimator=lambda b: 1 / 0), "the objective raised ZeroDivisionError.*odd_problems.py"
    ),
    "an objective that changes its batch": Odd(
        mean(estimator=in_place), r"changes batch\.reward in place.*batch\.reward\.clone\(\)"
    ),
    "an objective that changes its batch by NumPy": Odd(
        mean(estimator=beside_autograd), r"changes batch\.reward in place.*batch\.reward\.clone\(\)"
    ),
    "a log-probability above 0": Odd(weights(0.5), r"logp\[0, 0\] = 0.5 at a token .* must be numbers <= 0"),
    "an estimator of words": Odd(
        lambda: Estimator("token", "standardised", "none", "mean"),
        r"ratio = 'token' is no function: give one of",
    ),
    "an advantage without its parameters": Odd(
        lambda: Estimator(token, standardised, unclipped(), sequence_mean),
        r"advantage = <class.* is no function: give",
    ),
    "a clip without its parameters": Odd(
        lambda: Estimator(token, standardised(), unclipped, sequence_mean),
        r"clip = <class.* is no Clip: give",
    ),
    "an advantage that is a name": Odd(
        lambda: from_loss(lambda logp, old, A, mask: A.sum(), "standardised"),
        r"the advantage 'standardised' .*give standardised\(\)",
    ),
    "a clip as a string": Odd(
        lambda: grpo(eps_low="0.2"), r"eps_low = '0.2', eps_high = 0.2: .*needs eps_low >= 0"
    ),
    "a clip that is None": Odd(lambda: tic_grpo(eps_high=None), r"eps_high = None: .*needs eps_low >= 0"),
    "beta as a string": Odd(lambda: kl_loss(k3, "0.1"), r"beta = '0.1' .*finite number"),
    "beta that is NaN": Odd(lambda: kl_loss(k3, math.nan), r"beta = nan .*finite number"),
    "lists in a batch": Odd(
        lambda: Batch([[-1.0]], [[-1.0]], [1.0], [[True]]),
        r"logp = \[\[-1.0\]\] is no tensor: give torch\.tensor",
    ),
}

OPTIONS = {
    "symmetric as a word": Odd(mean(symmetric="no"), r"symmetric = 'no'.*give True.*False.*None"),
    "explain as a word": Odd(mean(explain="no"), r"explain = 'no'.*give True.*or False"),
    "a limit as a string": Odd(mean(limit="10"), r"limit = '10' must be a whole number >= 1"),
    "a tolerance as a string": Odd(mean(tolerance="1e-3"), r"tolerance = '1e-3'.*number > 0"),
    "a seed that is no integer": Odd(mean(method="sampled", seed=1.5), r"seed = 1.5 must be a whole number"),
    "record_theta as a word": Odd(run(record_theta="no"), r"record_theta = 'no'.*give True.*or False"),
}

PROBLEMS = {**POLICIES, **GROUPS, **CALLABLES, **OPTIONS}
