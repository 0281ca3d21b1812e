"""The other families of the catalogue, line by line against their literal objectives."""

import dataclasses
import inspect
import math

import pytest
import torch

from tests.oracles.literal_lines import LITERAL, Rows
from tests.thinned import one_in
from ticgrpo_theory.batch import Batch
from ticgrpo_theory.estimators import ESTIMATORS, Estimator, catalogue
from ticgrpo_theory.estimators.catalogue import FACTORIES, FIRST, OF_ONE_GROUP
from ticgrpo_theory.estimators.clipping import two_sided, unclipped
from ticgrpo_theory.estimators.corrections import truncated
from ticgrpo_theory.exact import expected_gradient, gradient_moments
from ticgrpo_theory.mdp import TokenMDP

P, G, T = 2, 3, 4
LINES = [name for name in ESTIMATORS if name not in FIRST]
OTHERS = {"trl_bnpo": {"rows": 2}}
"""Parameters with which a line fits an update of six rows."""


def line(name: str, **others: float) -> Estimator:
    return getattr(catalogue, name)(**{**OTHERS.get(name, {}), **others})


def drawn(seed: int, spread: float) -> Batch:
    """An update with responses of 1 to 4 tokens, three policies that differ, and rewards of either sign."""
    generator = torch.Generator().manual_seed(seed)

    def table(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(P, G, T, generator=generator, dtype=torch.float64)

    length = torch.randint(1, T + 1, (P, G), generator=generator)
    mask = torch.arange(T) < length[..., None]
    old = table(-2.0, -0.5)
    logp = (old + table(-spread, spread)).clamp(max=-0.01)
    sampler = (old + table(-spread, spread)).clamp(max=-0.01)
    reward = torch.randint(-1, 3, (P, G), generator=generator).double() + torch.tensor([0.0, 0.5, 0.0])
    return Batch(logp, old, reward, mask, horizon=6, logp_sampler=sampler)


def nearer(name: str, batch: Batch) -> Batch:
    """The same, with a sampler so near that bounds 0.1 % away from it keep some responses and drop others."""
    if not name.startswith("verl_geo"):
        return batch
    d = batch.logp_sampler - batch.logp_old
    return dataclasses.replace(batch, logp_sampler=batch.logp_old + 0.004 * d)


def literal_weights(name: str, batch: Batch) -> torch.Tensor:
    """The gradient of the literal objective in every log-probability."""
    flat = [x.flatten(0, 1) for x in (batch.logp, batch.logp_old, batch.logp_sampler, batch.mask)]
    logp = flat[0].clone().requires_grad_()
    rows = Rows(logp, flat[1], flat[2], batch.reward, flat[3], batch.horizon)
    (found,) = torch.autograd.grad(LITERAL[name](rows), logp)
    return found.reshape(batch.logp.shape)


def check_line(name: str) -> None:
    estimator, moved = line(name), 0
    for seed in range(12):
        batch = nearer(name, drawn(seed, 0.2 + 0.1 * seed))
        found, wanted = estimator.update_weights(batch), literal_weights(name, batch)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
        moved += int((wanted[batch.mask] != 0).sum())
    assert moved > 50


def test_every_other_line_has_a_literal_objective():
    assert sorted(LITERAL) == sorted(LINES) and len(LINES) >= 25


@pytest.mark.parametrize("name", LINES)
def test_a_line_has_the_gradient_of_its_literal_objective(name):
    check_line(name)


def test_what_reads_one_group_is_told_from_what_does_not():
    assert set(FIRST) <= set(OF_ONE_GROUP)
    assert not {"trl_dapo", "verl_grpo", "vespo", "tis", "mis"} & set(OF_ONE_GROUP)
    assert {"sapo", "luspo", "dppo_tv", "trl_grpo", "verl_gspo"} <= set(OF_ONE_GROUP)


KNOBS = [
    (factory.__name__, knob)
    for factory in FACTORIES
    for knob in inspect.signature(factory).parameters
    if factory.__name__ not in FIRST
]
MOVED = {
    "tau_positive": 3.0,
    "tau_negative": 3.0,
    "eps_low": 0.02,
    "eps_high": 0.02,
    "cap": 1.05,
    "low": 0.99,
    "high": 1.05,
    "rows": 3,
    "epsilon_high": 1.05,
    "clip_max": 1.05,
    "threshold": 0.01,
    "alpha": 2.0,
}


@pytest.mark.parametrize("name, knob", KNOBS)
def test_every_knob_of_every_line_is_read(name, knob):
    value = 0.01 if name.startswith("dppo") and knob == "delta" else MOVED.get(knob, 0.5)
    one, other, gap = line(name, **{knob: value}), line(name), 0.0
    for seed in range(6):
        batch = drawn(seed, 0.6)
        gap = max(gap, float((one.update_weights(batch) - other.update_weights(batch)).abs().max()))
    assert gap > 1e-6


# Where a line is another one, or has no gradient.


def same(one: Estimator, other: Estimator, batch: Batch) -> bool:
    return bool((one.update_weights(batch) - other.update_weights(batch)).abs().max() < 1e-13)


def test_without_drift_a_shape_is_no_shape():
    batch = drawn(1, 0.5)
    batch = dataclasses.replace(batch, logp=batch.logp_old)
    assert same(ESTIMATORS["sapo"], ESTIMATORS["grpo"], batch)
    assert same(ESTIMATORS["dppo_tv"], dataclasses.replace(ESTIMATORS["dr_grpo"], clip=unclipped()), batch)
    assert same(ESTIMATORS["vespo"], dataclasses.replace(ESTIMATORS["vespo"], clip=unclipped()), batch)


@pytest.mark.parametrize("name", ["decoupled_ppo", "tis", "seq_tis", "icepop", "mis"])
def test_a_correction_of_a_sampler_that_is_theta_old_is_none(name):
    batch = drawn(2, 0.5)
    batch = dataclasses.replace(batch, logp_sampler=batch.logp_old)
    assert same(ESTIMATORS[name], ESTIMATORS["grpo"], batch)


def test_far_ratios_have_no_weight_under_a_sigmoid_gate():
    batch = drawn(1, 0.1)
    far = dataclasses.replace(batch, logp=batch.logp_old - 500.0)
    assert float(ESTIMATORS["sapo"].update_weights(far).abs().max()) < 1e-200


def test_a_wide_clip_is_none():
    batch = drawn(4, 1.0)
    wide = dataclasses.replace(ESTIMATORS["grpo"], clip=two_sided(10.0, 1e6))
    assert same(wide, dataclasses.replace(ESTIMATORS["grpo"], clip=unclipped()), batch)


def test_no_cap_on_a_correction_is_decoupled_ppo():
    batch = drawn(5, 1.0)
    wide = dataclasses.replace(ESTIMATORS["tis"], correction=truncated("token", None, math.inf))
    assert same(wide, ESTIMATORS["decoupled_ppo"], batch)


# Every line has an exact answer, by two methods.


def small_world() -> tuple[TokenMDP, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    worlds = []
    for n in range(2):
        reward = {y: float((i + n) % 2) for i, y in enumerate([(0, 0), (0, 1), (1,)])}
        worlds.append(TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=reward.__getitem__, eos=1))
    world = TokenMDP.mixture(worlds, [0.4, 0.6], share_rows=True)
    tables = [torch.randn(world.num_rows, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    return world, tables[0], tables[0] + 0.3 * tables[1], tables[0] + 0.3 * tables[2]


def check_exact(name: str) -> None:
    world, theta, old, sampler = small_world()
    given = (world, theta, old, line(name), 2)
    options = {"theta_sampler": sampler, "prompts": 2}
    found = expected_gradient(*given, **options)
    listed = expected_gradient(*given, method="groups", **options)
    torch.testing.assert_close(found, listed, rtol=1e-12, atol=1e-15)
    one, other = gradient_moments(*given, **options), gradient_moments(*given, "groups", **options)
    assert abs(one.variance - other.variance) <= 1e-12 * other.second_moment


@pytest.mark.parametrize("name", one_in(4, LINES))
def test_every_line_has_an_exact_answer_under_a_sampler(name):
    check_exact(name)
