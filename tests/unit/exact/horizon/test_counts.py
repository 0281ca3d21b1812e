"""One shared row at the length of real responses: reference values, bins, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.thinned import more
from ticgrpo_theory.estimators.catalogue.first import gspo, tic_grpo
from ticgrpo_theory.estimators.clipping import unclipped
from ticgrpo_theory.exact import expected_gradient
from ticgrpo_theory.exact.horizon.counts import Counted, one_row
from ticgrpo_theory.mdp import TokenMDP

CLIPPED = tic_grpo(delta=0.0)
OPEN = dataclasses.replace(CLIPPED, clip=unclipped())


def counted(estimator, d, T) -> Counted:
    """Two tokens, theta apart by d, reward 1 where at least half of the tokens are 0, groups of 8."""
    return one_row([d / 2, -d / 2], [0.0, 0.0], estimator, 8, T, lambda n: (n[:, 0] >= T / 2) * 1.0)


def automaton(T) -> TokenMDP:
    """The same as a world whose states count the tokens 0."""
    need = T // 2
    moves = [[min(q + 1, need), q] for q in range(need + 1)]
    reward = [float(q == need) for q in range(need + 1)]
    return TokenMDP.automaton(moves, 2, T, reward, rows=[0] * (need + 1))


@pytest.mark.parametrize(
    ("d", "T", "clipped", "unclipped_value", "J", "gradient"),
    [
        (0.3, 12, 0.4717885479, 0.9511005885, 0.7928667580, 0.5035125522),
        (0.01, 1024, 9.5693839931, 11.6353565293, 0.5758493304, 6.2688542446),
        (0.1, 1024, -1.5996829774, 3.1303486379, 0.9485876813, 1.6865576312),
    ],
)
def test_counts_give_the_reference_values(d, T, clipped, unclipped_value, J, gradient):
    found = counted(CLIPPED, d, T)
    numbers = [found.value[0], counted(OPEN, d, T).value[0], found.expected_return, found.gradient[0]]
    assert numbers == pytest.approx([clipped, unclipped_value, J, gradient], abs=6e-11, rel=1e-10)


@pytest.mark.parametrize(
    ("d", "T", "left", "kept"),
    [
        (0.001, 64, 1, 1),
        (0.001, 256, 1, 1),
        (0.001, 1024, 1, 1),
        (0.001, 4096, 1, 1),
        (0.001, 18000, 0.999368, 0.999900),
        (0.01, 64, 1, 1),
        (0.01, 256, 0.996289, 0.999306),
        (0.01, 1024, 0.822440, 0.944526),
        (0.01, 4096, 0.564174, 0.821702),
        (0.01, 18000, 0.374860, 0.760554),
        (0.1, 64, 0.538613, 0.809134),
        (0.1, 256, 0.315247, 0.754079),
        (0.1, 1024, -0.511024, 0.833664),
        (0.1, 4096, -26.02, 0.952732),
    ],
)
def test_counts_say_what_the_clip_leaves(d, T, left, kept):
    found = counted(CLIPPED, d, T)
    share = found.value[0] / counted(OPEN, d, T).value[0]
    assert share == pytest.approx(left, abs=6e-7 if abs(left) < 2 else 6e-3)
    assert found.kept == pytest.approx(kept, abs=6e-7)


@pytest.mark.parametrize("estimator", [CLIPPED, gspo(0.01, 0.02)])
def test_the_pass_over_bins_is_exact_on_the_lattice_of_one_row(estimator):
    d, T = 0.3, 40
    found = expected_gradient(
        automaton(T), [[d / 2, -d / 2]], [[0.0, 0.0]], estimator, 8, method="enclosure", explain=True
    )
    exact = torch.from_numpy(counted(estimator, d, T).value)[None]
    assert bool(((found.lower <= exact) & (exact <= found.upper)).all())
    assert float((found.upper - found.lower).max()) < 1e-9


@more
def test_auto_takes_the_lattice_where_responses_cannot_be_listed():
    found = expected_gradient(automaton(256), [[0.05, -0.05]], [[0.0, 0.0]], CLIPPED, 8, explain=True)
    assert found.method == "enclosure"
    assert float(found.value[0, 0]) == pytest.approx(counted(CLIPPED, 0.1, 256).value[0], abs=1e-8)


def test_three_kinds_of_tokens_add_to_zero_at_a_thousand_tokens():
    found = one_row([0.05, -0.05, 0.0], np.zeros(3), CLIPPED, 8, 1024, lambda n: (n[:, 0] >= 342) * 1.0)
    assert abs(found.value.sum()) < 1e-9
    assert abs(found.value).max() > 1.0


@pytest.mark.parametrize(
    ("theta", "old", "estimator", "T", "said"),
    [
        ([0.0, 0.0], [0.0, 0.0], "grpo", 8, "does not weigh whole responses"),
        ([0.0, 0.0], [0.0, 0.0, 0.0], CLIPPED, 8, "theta has 2 logits, theta_old 3"),
        ([0.0, -np.inf], [0.0, 0.0], CLIPPED, 8, "masked"),
        (np.zeros(9), np.zeros(9), CLIPPED, 1024, "more than MAX_COUNTS"),
    ],
)
def test_what_counts_cannot_hold_is_refused(theta, old, estimator, T, said):
    with pytest.raises(ValueError, match=said):
        one_row(theta, old, estimator, 8, T, lambda n: n[:, 0])


def test_a_wide_enclosure_is_refused_with_its_width_and_given_where_it_is_explained(monkeypatch):
    monkeypatch.setattr("ticgrpo_theory.exact.horizon.enclosure.MAX_WORK", 4e5)
    moves = [[0, 1, 0], [1, 0, 1]]
    mdp = TokenMDP.automaton(moves, 3, 24, [0.0, 1.0], rows="state")
    theta = [[0.21, -0.1, 0.05], [0.0, 0.13, -0.3]]
    given = (mdp, theta, np.zeros((2, 3)), CLIPPED, 8)
    with pytest.raises(ValueError, match=r"half width of .* of its norm, more than tolerance = 1e-06"):
        expected_gradient(*given, method="enclosure")
    found = expected_gradient(*given, method="enclosure", explain=True)
    assert bool((found.lower < found.value).any())
    assert not found.exact
    monkeypatch.setattr("ticgrpo_theory.exact.horizon.enclosure.MAX_WORK", 1e4)
    with pytest.raises(ValueError, match=r"leave \d+ bins .* fewer than FIRST_BINS"):
        expected_gradient(*given, method="enclosure")


def test_estimators_that_no_pooled_ratio_holds_are_named_with_the_reason():
    given = (automaton(8), [[0.1, 0.0]], [[0.0, 0.0]])
    with pytest.raises(ValueError, match="no pooled ratio is left of its weight"):
        expected_gradient(*given, "grpo", 4, method="enclosure")
    with pytest.raises(ValueError, match="rule of its own"):
        expected_gradient(*given, "gmpo", 4, method="enclosure")
