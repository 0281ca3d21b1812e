"""rng.py: named streams are reproducible, separate, and carry more than the 32 bits of a plain CPU seed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.thinned import more
from ticgrpo_theory.stats.rng import stream

ROOT = Path(__file__).parents[3]

names = st.lists(st.one_of(st.integers(0, 3), st.text("ab1,\"' ", max_size=3)), min_size=1, max_size=3).map(
    tuple
)


def draws(*arguments: int | str, n: int = 4) -> list[float]:
    return torch.rand(n, generator=stream(*arguments), dtype=torch.float64).tolist()


def test_the_numbers_are_those_of_mt19937_seeded_with_the_hash():
    # printf '[7, "rewards", 2]' | sha256sum
    key = 0x966D17691A7B03BF7CBD363B47AB3D012CD066E0900A5AADC163D93D928749F3
    words = np.random.MT19937(np.random.SeedSequence(key)).random_raw(2001)
    # NumPy starts at the last word of its first block, torch with the next block; a float32 keeps 24 bits.
    expected = words[1:] % 2**24 / 2**24
    assert torch.rand(2000, generator=stream(7, "rewards", 2)).tolist() == expected.tolist()


@given(st.integers(-3, 3), names)
def test_the_same_name_gives_the_same_numbers(seed, name):
    assert draws(seed, *name) == draws(seed, *name)


@given(st.integers(0, 2), names, st.integers(0, 2), names)
def test_different_names_or_seeds_give_different_numbers(seed, name, other_seed, other):
    same = (seed, *map(repr, name)) == (other_seed, *map(repr, other))
    assert (draws(seed, *name) == draws(other_seed, *other)) == same


def test_names_are_not_glued_together():
    assert len({tuple(draws(0, *name)) for name in [("ab", "c"), ("a", "bc"), ("abc",), (1,), ("1",)]}) == 5


def test_seeds_that_agree_in_their_low_32_bits_are_separate_and_manual_seed_would_not_separate_them():
    assert draws(1, "x") != draws(1 + 2**32, "x")
    plain = [torch.rand(4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1 + 2**32)]
    torch.testing.assert_close(*plain, rtol=0, atol=0)


@more
def test_another_process_draws_the_same_numbers():
    code = "from tests.unit.stats.test_rng import draws; print(draws(3, 'worlds', 5))"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(printed) == draws(3, "worlds", 5)


def test_two_streams_are_uncorrelated():
    n = 20_000
    a, b = (torch.randn(n, generator=stream(0, "pair", i), dtype=torch.float64) for i in range(2))
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 5 / n**0.5


def test_a_stream_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"stream\(4\) has no name; say what is drawn"):
        stream(4)
