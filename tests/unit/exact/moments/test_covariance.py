"""The whole covariance matrix: one matrix by every method, and its trace is the variance."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.instances.worlds_by_hand import FEWER, OLD, THETA, case_moments, coin, eos_tree, odds
from tests.properties.strategies import mdps_with_two_policies
from tests.properties.tolerances import EXACT
from ticgrpo_theory.estimators import catalogue
from ticgrpo_theory.exact.moments.covariance import gradient_covariance
from ticgrpo_theory.mdp import TokenMDP


@FEWER
@given(
    mdps_with_two_policies(6),
    st.sampled_from(["grpo", "dapo", "tic_grpo", "dr_grpo", "gmpo"]),
    st.integers(2, 4),
)
def test_the_covariance_is_one_matrix_by_every_method(case, name, G):
    arguments = (case.mdp, case.theta, case.theta_old, name)
    by_groups = gradient_covariance(*arguments, group_size=G, method="groups")
    for method in ("auto", "enumeration"):
        torch.testing.assert_close(
            gradient_covariance(*arguments, group_size=G, method=method), by_groups, **EXACT
        )
    variance = case_moments(case, name, G).variance
    assert float(by_groups.trace()) == pytest.approx(variance, abs=1e-12)
    assert float(torch.linalg.eigvalsh(by_groups).min()) >= -1e-12


def test_too_many_logits_for_a_matrix_are_refused_with_what_would_do():
    mdp = TokenMDP.prefix_tree(vocab_size=4, horizon=6, reward=lambda y: float(y[0] == 0))
    logits = torch.zeros(mdp.num_rows, 4)
    with pytest.raises(
        ValueError, match=r"S V = 5,460 .* MAX_LOGITS = 4,096 .* gradient_moments\(...\).variance"
    ):
        gradient_covariance(mdp, logits, logits, "grpo", group_size=4)


def check_coin() -> None:
    # g_hat = (1/2, -1/2) with probability 1/2, else 0, and E g_hat = (1/4, -1/4).
    found = gradient_covariance(coin(), odds(0.5), odds(0.5), catalogue.grpo(delta=0.0), group_size=2)
    expected = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64) / 16
    torch.testing.assert_close(found, expected, **EXACT)


def test_the_covariance_of_a_coin_by_hand():
    check_coin()


def test_the_logits_of_a_row_move_against_each_other_and_rows_are_correlated():
    found = gradient_covariance(eos_tree((1.0, 0.3, 0.0, 1.0)), THETA, OLD, "grpo", group_size=3)
    # Logits of one row move together: their sum stays.
    rows = found.reshape(3, 2, 3, 2)
    torch.testing.assert_close(rows.sum(dim=1), torch.zeros(3, 3, 2, dtype=torch.float64), **EXACT)
    # Different rows are correlated, although their scores are orthogonal.
    assert float(rows[0, 0, 1, 0].abs()) > 1e-4
