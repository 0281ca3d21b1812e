"""uniforms.py: published outputs of SplitMix64, the same bits everywhere, and no pattern in what is drawn."""

import math

import numpy as np
import torch

from tests.oracles import algorithms
from tests.properties.montecarlo import assert_mean_is
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.simulate import simulate
from ticgrpo_theory.simulate.passes.uniforms import UNIT, child, child_key, fraction_bits, key, uniform


def check_published_outputs() -> None:
    """The first outputs for the seed 1234567, as printed with the reference implementation of SplitMix64."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [child_key(1234567, i) % 2**64 for i in range(4)] == published
    assert (child(torch.tensor(1234567), torch.arange(4)).numpy().view(np.uint64) == published).all()


def test_outputs_are_those_of_split_mix_64():
    check_published_outputs()


def test_compiled_code_tensors_and_python_integers_give_the_same_bits():
    origin = key(7, "simulate")
    indices = torch.arange(-50, 1000)
    tensors = child(torch.tensor(origin), indices)
    for i, bits in zip(indices.tolist(), tensors.tolist(), strict=True):
        assert bits % 2**64 == algorithms.split_mix(origin % 2**64, i) == child_key(origin, i) % 2**64
    fractions = (fraction_bits(tensors).double() * UNIT).tolist()
    assert [uniform(origin, i) for i in indices.tolist()] == fractions
    assert all(0 <= u < 1 for u in fractions)


def test_numbers_are_uniform_and_neighbours_unrelated():
    """Mean and variance of u, and correlation of neighbouring replicates, steps, responses and tokens."""
    origin = torch.tensor(key(0, "simulate"))
    axes = torch.meshgrid(*(torch.arange(n) for n in (10, 10, 10, 10)), indexing="ij")
    keys = origin.expand(axes[0].shape)
    for axis in axes:
        keys = child(keys, axis)
    z = (fraction_bits(keys).double() * UNIT - 0.5) * math.sqrt(12)
    assert_mean_is(z.flatten(), 0.0, visible=0.06)
    assert_mean_is(z.flatten() ** 2, 1.0, visible=0.06)
    for d in range(4):
        product = z.narrow(d, 0, 9) * z.narrow(d, 1, 9)
        # Products of neighbours share factors, but are uncorrelated: their standard error is the usual one.
        assert_mean_is(product.flatten(), 0.0, visible=0.06)


def test_seeds_have_numbers_of_their_own():
    keys = {key(seed, "simulate") for seed in range(1000)} | {key(0, "other")}
    assert len(keys) == 1001


def test_tokens_come_with_the_probabilities_of_the_policy():
    """One token, eta so large that theta tells which was drawn: frequencies are those of softmax(theta)."""
    theta = torch.tensor([[0.0, 1.0, -1.0]], dtype=torch.float64)
    mdp = TokenMDP.prefix_tree(vocab_size=3, horizon=1, reward=[1.0, 1.0, 1.0])
    trace = simulate(
        mdp,
        theta,
        "reinforce",
        group_size=1,
        learning_rate=1.0,
        inner_steps=1,
        outer_steps=1,
        replicates=20000,
    )
    # theta + e_a - pi
    drawn = trace.theta[:, 0] - theta + torch.softmax(theta, dim=-1)
    assert_mean_is(drawn, torch.softmax(theta, dim=-1)[0], visible=0.02)
    assert torch.unique(drawn.round(decimals=6), dim=0).tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_prompts_come_with_their_weights():
    """Each prompt has its number for a reward; a group of one with REINFORCE shows it in the step."""
    prompts = [TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[r, r]) for r in (1.0, 2.0, 3.0)]
    mdp = TokenMDP.mixture(prompts, [0.5, 0.25, 0.25], share_rows=True)
    trace = simulate(
        mdp,
        torch.zeros(1, 2),
        "reinforce",
        group_size=1,
        learning_rate=1.0,
        inner_steps=1,
        outer_steps=1,
        replicates=20000,
    )
    met = 2 * trace.theta[:, 0].abs()[:, :1] == torch.tensor([1.0, 2.0, 3.0])
    assert_mean_is(met.double(), torch.tensor([0.5, 0.25, 0.25]), visible=0.02)
