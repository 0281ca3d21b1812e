"""sampled.py: the mean of drawn groups against the exact expectation, and how wide its intervals are."""

import numpy as np
import pytest
import torch
from scipy import stats

from tests.properties.tolerances import MOVES, SAME_BITS
from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.exact import expected_gradient, sampled
from ticgrpo_theory.exact.problem import CheckedProblem, Options
from ticgrpo_theory.exact.sampled import Groups, Sample
from ticgrpo_theory.mdp import TokenMDP

# V = 2, T = 2, token 1 ends: three responses of unequal length.
WORLD = TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[1.0, 0.0, 0.25], eos=1)
OLD, THETA = [[0.2, -0.1], [0.3, 0.0]], [[0.9, -0.6], [-0.5, 0.6]]
TWO = TokenMDP.mixture(
    [TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=list(r)) for r in ([1.0, 0.0], [0.0, 0.5])],
    [0.25, 0.75],
    share_rows=False,
)
SEEDS, SIZE, G = 40, 400, 3


def drawn(estimator, seed: int, size: int = SIZE, world: TokenMDP = WORLD):
    """As many groups as `size` says: no tolerance is that small."""
    how = {"seed": seed, "limit": size, "tolerance": 1e-9, "explain": True}
    return expected_gradient(world, THETA, OLD, estimator, G, "sampled", **how)


def coverage(name: str) -> tuple[int, int, int]:
    """Of SEEDS samples: those whose intervals hold, those whose norm is within its bound,
    those that hold at a quarter of their width."""
    exact = expected_gradient(WORLD, THETA, OLD, name, G)
    all_held = norm_held = quarter_held = 0
    problem = CheckedProblem(WORLD, THETA, OLD, name, G).one
    for seed in range(SEEDS):
        one = Sample(Groups(type(problem)(**{**vars_of(problem), "options": Options(seed=seed)})))
        one.draw(SIZE)
        gap = (one.mean.reshape(exact.shape) - exact).abs()
        width = one.half_width().reshape(exact.shape)
        all_held += bool((gap <= width + 1e-12).all())
        quarter_held += bool((gap <= width / 4 + 1e-12).all())
        norm_held += float(gap.norm()) <= one.norm_half_width()
    return all_held, norm_held, quarter_held


def vars_of(problem) -> dict:
    return {name: getattr(problem, name) for name in type(problem).__dataclass_fields__}


def least(p: float) -> int:
    """Successes that SEEDS trials of probability p fall short of once in a million times."""
    return int(stats.binom.ppf(1e-6, SEEDS, p))


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_the_exact_gradient_lies_in_the_intervals_as_often_as_they_say(name):
    all_held, norm_held, quarter = coverage(name)
    assert all_held >= least(0.985) and norm_held >= least(0.98)
    # Intervals that held however wide they are would say nothing: a quarter of the width misses often.
    assert quarter < least(0.985)


def test_intervals_of_standard_errors_alone_would_fail_that_check(monkeypatch):
    monkeypatch.setattr(sampled, "LEVEL", 0.5)
    all_held, norm_held, _ = coverage("rloo")
    assert all_held < least(0.985) and norm_held < least(0.98)


def test_half_widths_shrink_with_the_root_of_the_number_of_groups():
    small, large = (drawn("grpo", 0, size) for size in (500, 8000))
    assert (small.groups, large.groups) == (500, 8000)
    assert small.norm_half_width / large.norm_half_width == pytest.approx(4, rel=0.15)
    ratio = (small.half_width / large.half_width)[small.half_width > 0]
    assert ratio.numel() == 4 and ((ratio - 4).abs() < 0.8).all()


def test_a_seed_gives_the_same_groups_and_another_seed_others():
    one, again, other = drawn("grpo", 3), drawn("grpo", 3), drawn("grpo", 4)
    torch.testing.assert_close(one.value, again.value, **SAME_BITS)
    torch.testing.assert_close(one.half_width, again.half_width, **SAME_BITS)
    assert (one.value - other.value).abs().max() > MOVES


def test_the_library_refuses_an_interval_that_is_too_wide_and_explain_returns_it():
    how = {"limit": 600, "tolerance": 1e-3}
    with pytest.raises(ValueError, match=r"after 600 groups .* at 99 %, .* a larger tolerance or limit"):
        expected_gradient(WORLD, THETA, OLD, "grpo", G, "sampled", **how)
    found = expected_gradient(WORLD, THETA, OLD, "grpo", G, "sampled", **how, explain=True)
    assert found.norm_half_width > 1e-3 * float(found.value.norm()) and not found.exact
    assert found.method == "sampled" and "seed 0, 600 groups" in found.assumed
    wide = expected_gradient(WORLD, THETA, OLD, "grpo", G, "sampled", tolerance=0.5)
    exact = expected_gradient(WORLD, THETA, OLD, "grpo", G)
    assert float((wide - exact).norm()) <= 0.5 * float(wide.norm())


def test_it_draws_until_the_tolerance_is_reached_and_not_much_longer():
    found = expected_gradient(WORLD, THETA, OLD, "rloo", G, "sampled", tolerance=0.05, explain=True)
    relative = found.norm_half_width / float(found.value.norm())
    assert 0.025 < relative <= 0.05 and found.groups > sampled.PILOT


def test_a_sum_over_groups_has_no_interval():
    found = expected_gradient(WORLD, THETA, OLD, "grpo", G, explain=True)
    assert found.exact and found.half_width is None and found.norm_half_width == 0 and found.assumed == ""


def test_over_prompts_values_and_half_widths_are_weighed():
    found = drawn("rloo", 0, 2000, TWO)
    parts = CheckedProblem(TWO, THETA, OLD, "rloo", G, limit=2000, tolerance=1e-9).parts
    each = [(q, sampled.sampled(problem)) for q, problem in parts]
    torch.testing.assert_close(found.value, sum(q * e.value for q, e in each), **SAME_BITS)
    torch.testing.assert_close(found.half_width, sum(q * e.half_width for q, e in each), **SAME_BITS)
    assert found.groups == 4000 and found.norm_half_width == sum(q * e.norm_half_width for q, e in each)
    exact = expected_gradient(TWO, THETA, OLD, "rloo", G)
    gap = (found.value - exact).abs()
    assert (gap <= found.half_width).all() and (gap > 0).any() and found.half_width.isfinite().all()


RARE = TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[1.0, 0.0])
SELDOM = [[-10.0, 0.0]]
"""Token 0, the only one with a reward, has a probability of 5e-5."""


def rare(limit: int, **options):
    return expected_gradient(RARE, SELDOM, SELDOM, "rloo", 2, "sampled", limit=limit, **options)


def test_groups_that_all_look_alike_have_no_interval():
    """Nothing but zeros so far is no proof of zero."""
    exact = expected_gradient(RARE, SELDOM, SELDOM, "rloo", 2)
    assert exact.abs().max() > 0
    found = rare(1000, explain=True)
    assert found.groups == 1000 and not found.value.any()
    assert found.norm_half_width == np.inf and found.half_width.isinf().all()
    with pytest.raises(ValueError, match=r"after 1,000 groups E\[g_hat\] is known to \+-inf"):
        rare(1000)


def test_neither_have_their_squares():
    problem = CheckedProblem(RARE, SELDOM, SELDOM, "rloo", 2).one
    sample = Sample(Groups(problem))
    sample.draw(1000)
    assert sample.second_moment == (0.0, np.inf)


def test_the_same_taken_for_an_interval_would_be_a_wrong_number(monkeypatch):
    monkeypatch.setattr(sampled, "FEWEST", 0)
    monkeypatch.setattr(Sample, "norm_half_width", lambda self: 0.0)
    assert not rare(1000).any()


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_a_tolerance_that_means_nothing_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"tolerance = .*: the relative error to reach is a number > 0"):
        expected_gradient(WORLD, THETA, OLD, "grpo", G, "sampled", tolerance=tolerance)


def test_an_infinite_group_is_not_drawn():
    with pytest.raises(ValueError, match=r"an infinite group cannot be drawn"):
        expected_gradient(WORLD, THETA, OLD, "grpo", np.inf, "sampled")


def test_a_callable_is_sampled_like_what_it_implements():
    def objective(batch):
        c = ESTIMATORS["grpo"].token_weights(batch)
        return (c * batch.logp.where(batch.mask, 0.0)).sum()

    torch.testing.assert_close(drawn(objective, 1).value, drawn("grpo", 1).value, atol=1e-12, rtol=1e-12)


def test_a_callable_with_a_state_is_refused():
    calls = []

    def moody(batch):
        calls.append(float(batch.reward.sum()))
        return (1 + 0.1 * (len(calls) > 700)) * (batch.reward * batch.log_ratio.sum(-1)).sum()

    with pytest.raises(ValueError, match=r"other token weights to the same group the second time"):
        drawn(moody, 0, 800)
