"""Samplers by hand: probabilities that are written down, ties, masks, extremes, the classes of an engine."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.properties.strategies import eighths
from tests.properties.tolerances import EXACT, SAME_BITS, VISIBLE
from ticgrpo_theory.worlds.samplers import (
    TRANSFORMERS,
    Sampler,
    bfloat16,
    chain,
    lost_mass,
    min_p,
    noise,
    temperature,
    top_k,
    top_p,
)

NEVER = -math.inf
FIVE = [0.4, 0.25, 0.2, 0.1, 0.05]


def table(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def of_probabilities(*rows: list[float]) -> torch.Tensor:
    """Logits of rows of probabilities, which need not add to 1."""
    return table(*rows).log()


def drawn(sampler: Sampler, *rows: list[float]) -> torch.Tensor:
    """Probabilities of mu."""
    return torch.softmax(sampler(of_probabilities(*rows)), dim=-1)


def check_top_p_by_hand():
    """0.4 + 0.25 < 0.7 <= 0.4 + 0.25 + 0.2: the third token crosses and is kept, wherever it stands."""
    wanted = table([0.4, 0.25, 0.2, 0, 0], [0, 0.2, 0.4, 0, 0.25]) / 0.85
    assert_close(drawn(top_p(0.7), FIVE, [0.05, 0.2, 0.4, 0.1, 0.25]), wanted, **EXACT)


def check_min_p_by_hand():
    """0.3 times 0.4 is 0.12: 0.2 stays, 0.1 goes, whatever the other tokens are."""
    wanted = table([0.4, 0.25, 0.2, 0, 0]) / 0.85
    assert_close(drawn(min_p(0.3), FIVE), wanted, **EXACT)


def check_chain_by_hand():
    """temperature 1/2 squares: 16, 6.25, 4, 1, 0.25 of 27.5. min_p = 0.1 takes the last two, 26.25 are left,
    and the first two have 22.25 / 26.25 = 0.848 of them: top_p = 0.84 keeps two. Of all 27.5 they have 0.809,
    so that transformers, where top_p goes before min_p, keeps three."""
    three = (min_p(0.1), top_p(0.84), temperature(0.5))
    wanted = table([16, 6.25, 0, 0, 0]) / 22.25
    assert_close(drawn(chain(*three), FIVE), wanted, **EXACT)
    assert_close(drawn(chain(*reversed(three)), FIVE), wanted, **EXACT)
    wanted = table([16, 6.25, 4, 0, 0]) / 26.25
    assert_close(drawn(chain(*three, order=TRANSFORMERS), FIVE), wanted, **EXACT)


def test_top_p_keeps_the_token_that_crosses():
    check_top_p_by_hand()


def test_min_p_is_relative_to_the_likeliest_token():
    check_min_p_by_hand()


def test_a_chain_applies_its_samplers_in_the_order_of_the_engine():
    check_chain_by_hand()


def test_a_temperature_is_a_power_of_the_probabilities():
    """t = 1/2: squares; t = 2: roots."""
    assert_close(drawn(temperature(0.5), [0.75, 0.25]), of_probabilities([0.9, 0.1]).exp(), **EXACT)
    assert_close(drawn(temperature(2.0), [0.64, 0.36]), of_probabilities([4 / 7, 3 / 7]).exp(), **EXACT)


def test_a_cold_sampler_never_draws_what_has_probability_zero_in_float64():
    assert temperature(2**-10)([[0.0, 0.5, -0.5]]).tolist() == [[-512.0, 0.0, NEVER]]
    assert float(lost_mass([[0.0, 0.7]], temperature(0.0001)([[0.0, 0.7]]))) > VISIBLE


def test_top_k_keeps_the_k_likeliest_and_all_that_equal_the_last_of_them():
    assert_close(drawn(top_k(2), FIVE), table([0.4, 0.25, 0, 0, 0]) / 0.65, **EXACT)
    tied = drawn(top_k(2), [0.4, 0.2, 0.2, 0.2])
    assert_close(tied, table([0.4, 0.2, 0.2, 0.2]), **EXACT)
    assert (drawn(top_k(1), [0.4, 0.4, 0.2])[0] > 0).tolist() == [True, True, False]


@pytest.mark.parametrize("tokens", [2, 3, 5, 10, 100])
def test_a_mass_that_reaches_p_but_for_rounding_reaches_it(tokens):
    """k of n equal tokens have mass k / n, whose sum in float64 falls on either side."""
    for k in range(1, tokens + 1):
        kept = top_p(k / tokens)(torch.zeros(1, tokens)).isfinite()
        assert int(kept.sum()) == k
        assert kept[0].tolist() == [False] * (tokens - k) + [True] * k


def test_a_probability_that_is_the_share_of_the_largest_but_for_rounding_stays():
    for share in (0.1, 0.2, 0.3, 1 / 3, 0.7):
        assert bool(min_p(share)(of_probabilities([0.6, 0.6 * share])).isfinite().all())
        assert not bool(min_p(share)(of_probabilities([0.6, 0.5999 * share])).isfinite().all())


@pytest.mark.parametrize(
    "sampler",
    [temperature(1), top_p(1), top_k(0), top_k(-1), top_k(5), top_k(9), min_p(0), noise(0.0), top_p(1.0)],
    ids=repr,
)
def test_an_extreme_is_the_policy_to_the_bit(sampler):
    theta = table([0.1, -3.7, 2.0, NEVER, -800.0], [5.0, 5.0, 0.3, 1e300, -1e300])
    assert_close(sampler(theta), theta, **SAME_BITS)
    assert sampler(theta) is not theta


@pytest.mark.parametrize("sampler", [top_p(1e-300), min_p(1.0), top_k(1), temperature(1e-320)], ids=repr)
def test_the_other_extreme_is_the_likeliest_token(sampler):
    theta = table([0.1, 0.25, NEVER, 0.2], [-1e300, 1e308, 0.0, 1e307])
    wanted = table([0, 1, 0, 0], [0, 1, 0, 0])
    assert_close(torch.softmax(sampler(theta), dim=-1), wanted, **EXACT)


def test_bfloat16_has_eight_significant_bits_and_ties_go_to_even():
    theta = table([1 + 2**-7, 1 + 2**-8, 1 + 3 * 2**-8, 10.03, -0.1, NEVER])
    wanted = table([1 + 2**-7, 1, 1 + 2**-6, 10.0, -0.10009765625, NEVER])
    assert_close(bfloat16()(theta), wanted, **SAME_BITS)
    # By way of float32: 1 + 2**-8 + 2**-40 is a tie there, which bfloat16 alone would round up.
    assert bfloat16()([[1 + 2**-8 + 2**-40, 0.0]])[0, 0] == 1


def test_noise_is_normal_independent_and_named_by_its_seed():
    theta = torch.zeros(100, 50, dtype=torch.float64)
    z = noise(1.0, 3)(theta)
    assert_close(noise(0.5, 3)(theta), 0.5 * z, **SAME_BITS)
    assert float((noise(1.0, 4)(theta) - z).abs().min()) > 0
    assert abs(float(z.mean())) < 5 / math.sqrt(5000)
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / 5000)
    masked = theta.clone()
    masked[7, 3] = NEVER
    assert_close(noise(1.0, 3)(masked), z.where(masked == 0, NEVER), **SAME_BITS)


SAMPLERS = st.one_of(
    st.integers(1, 32).map(lambda n: top_p(n / 32)),
    st.integers(1, 6).map(top_k),
    st.integers(0, 32).map(lambda n: min_p(n / 32)),
)
ROWS = st.lists(
    st.lists(st.one_of(eighths(-3, 3), st.just(NEVER)), min_size=5, max_size=5).filter(
        lambda row: max(row) > NEVER
    ),
    min_size=1,
    max_size=3,
)


@given(ROWS, SAMPLERS)
def test_inside_its_support_a_mask_draws_from_the_policy_and_loses_the_rest(rows, sampler):
    theta = torch.tensor(rows, dtype=torch.float64)
    masked = sampler(theta)
    kept = masked.isfinite()
    assert bool((kept <= theta.isfinite()).all())
    assert_close(masked.amax(dim=1), theta.amax(dim=1), **SAME_BITS)
    assert bool((theta.where(kept, math.inf).amin(dim=1) >= theta.where(~kept, NEVER).amax(dim=1)).all())
    assert_close(masked, theta.where(kept, NEVER), **SAME_BITS)
    pi = torch.softmax(theta, dim=-1).where(kept, 0.0)
    assert_close(torch.softmax(masked, dim=-1), pi / pi.sum(dim=-1, keepdim=True), **EXACT)
    assert_close(lost_mass(theta, masked), 1 - pi.sum(dim=-1), **EXACT)


@given(ROWS, st.integers(1, 32))
def test_top_p_is_the_smallest_set_of_likeliest_tokens_that_reaches_p(rows, n):
    """By its definition: the sets of the likeliest ones are tried, and equal tokens are all the same."""
    for row in rows:
        prob = torch.softmax(torch.tensor(row, dtype=torch.float64), dim=-1)
        best = sorted(prob.tolist(), reverse=True)
        count = next(k for k in range(1, 6) if k == 5 or sum(best[:k]) >= n / 32 - 1e-12)
        kept = top_p(n / 32)([row]).isfinite()[0]
        assert sorted(prob[kept].tolist(), reverse=True) == [x for x in best[:count] if x > 0]


@given(ROWS, st.integers(1, 31), st.integers(1, 5))
def test_the_warpers_of_transformers_keep_the_same_tokens(rows, n, k):
    """Their classes, in float64, away from masses and shares that only rounding decides."""
    warpers = pytest.importorskip("transformers.generation.logits_process")
    theta = torch.tensor(rows, dtype=torch.float64)
    share = n / 32 + 2**-9  # irrational probabilities: never reached but for rounding
    for ours, theirs in (
        (top_k(k), warpers.TopKLogitsWarper(k)),
        (min_p(share), warpers.MinPLogitsWarper(share)),
        (temperature(share), warpers.TemperatureLogitsWarper(share)),
    ):
        wanted = torch.softmax(theirs(torch.zeros(1, 1, dtype=torch.long), theta.clone()), dim=-1)
        assert_close(torch.softmax(ours(theta), dim=-1), wanted, **EXACT)
    distinct = theta + torch.arange(5, dtype=torch.float64) / 1024
    theirs = warpers.TopPLogitsWarper(share)(torch.zeros(1, 1, dtype=torch.long), distinct.clone())
    assert_close(top_p(share)(distinct), theirs, **SAME_BITS)


def test_lost_mass_is_the_probability_of_what_the_sampler_never_draws():
    theta = of_probabilities(FIVE, [0.2] * 5)
    lost = lost_mass(theta, top_p(0.7)(theta))
    assert_close(lost, torch.tensor([0.15, 0.2], dtype=torch.float64), **EXACT)
    assert_close(lost_mass(theta, theta), torch.zeros(2, dtype=torch.float64), **SAME_BITS)
    # A probability that is 0 in float64 is never drawn either, and what theta itself masks is not lost.
    assert float(lost_mass([[0.0, 0.0, NEVER]], [[0.0, -800.0, NEVER]])) == 0.5


def test_a_bound_on_the_mass_is_no_bound_on_the_temperature():
    """The partner that must fail: the samplers are not one another."""
    theta = of_probabilities(FIVE)
    found = [torch.softmax(s(theta), dim=-1) for s in (temperature(0.7), top_p(0.7), min_p(0.7), top_k(4))]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert float((one - other).abs().max()) > VISIBLE
