"""decomposition/terms.py: the six weights of one token by hand, and which estimator has which equation."""

import dataclasses
import math

import pytest
import torch

from tests.instances.worlds_by_hand import coin, odds
from ticgrpo_theory.estimators.catalogue import grpo, tic_grpo, tic_grpo_eq11
from ticgrpo_theory.estimators.corrections import truncated
from ticgrpo_theory.estimators.filters import drop_equal
from ticgrpo_theory.exact.decomposition.terms import (
    Constants,
    Gates,
    Signed,
    constants,
    corrected,
    equation_of,
    gates,
    printed,
    tables_of,
)
from ticgrpo_theory.exact.problem import CheckedProblem


def tensor(x) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def test_each_estimator_has_its_equation():
    assert equation_of(grpo(0.1)).number == 7 and equation_of(tic_grpo_eq11(0.1)).number == 11
    with pytest.raises(ValueError, match="no decomposition is stated for the estimator"):
        equation_of(tic_grpo(0.1))
    for part in ({"filter": drop_equal()}, {"correction": truncated("token", None, 2.0)}):
        with pytest.raises(ValueError, match="no decomposition is stated for the estimator"):
            equation_of(dataclasses.replace(grpo(0.1), **part))


def test_the_constants_of_a_coin_by_hand():
    # In pairs of a fair coin sigma_G is 1/2 with probability 1/2.
    found = constants(CheckedProblem(coin(), odds(0.5), odds(0.5), grpo(), 2).one)
    assert (found.mean, found.sigma_bar, found.inverse_length) == pytest.approx((0.5, 0.25, 1.0))
    with pytest.raises(ValueError, match=r"0 for a group of one; give group_size >= 2"):
        constants(CheckedProblem(coin(), odds(0.5), odds(0.5), grpo(), 1).one)


def test_a_gate_is_open_between_its_bounds_and_shut_on_padding():
    on = gates(grpo(0.2, 0.2), tensor([[[0.0, 1.0, 0.0]]]), torch.tensor([[[True, True, False]]]))
    assert on.plus.tolist() == [[[True, False, False]]] and on.minus.tolist() == [[[True, True, False]]]


def test_the_weights_and_terms_of_one_token_by_hand():
    known = Constants(mean=0.5, sigma_bar=0.25, inverse_length=0.5)
    signed = Signed(tensor([3.0]), tensor([0.0]), tensor([0.0]))
    shut = Gates(torch.tensor([[False]]), torch.tensor([[True]]))
    found = tables_of(
        known, tensor([1.0]), torch.tensor([4]), signed, shut, tensor([[2.0]]), lambda x: x[:, None]
    )
    # z = 2, T1 z = 1, w = 2; the clip switches the token off.
    assert [float(getattr(found, name)) for name in ("z", "z_on", "w_z", "w_z_on", "w_A_on")] == [
        1,
        0,
        2,
        0,
        0,
    ]
    open_ = Gates(torch.tensor([[True]]), torch.tensor([[True]]))
    found = tables_of(
        known, tensor([1.0]), torch.tensor([4]), signed, open_, tensor([[2.0]]), lambda x: x[:, None]
    )
    # T1 A w = 3, A w / 4 = 3/2: sampling error 1 is 3 - 2, and 2 enters with a minus.
    terms, as_printed = corrected(found, equation_of(grpo())), printed(found, equation_of(grpo()))
    assert float(terms["sampling_error_1"].theta) == 1.0
    assert float(terms["sampling_error_2"].theta) == -1.5
    assert float(as_printed["sampling_error_2"].theta) == 1.5
    assert float(terms["gradient_error"].theta) == 2.0 and float(terms["gradient_error"].theta_old) == -1.0


def test_an_overflowing_ratio_is_refused():
    known, on = Constants(0.5, 0.25, 1.0), Gates(torch.tensor([[True]]), torch.tensor([[True]]))
    signed = Signed(tensor([1.0]), tensor([0.0]), tensor([0.0]))
    with pytest.raises(ValueError, match="an importance ratio overflows float64"):
        tables_of(known, tensor([1.0]), torch.tensor([1]), signed, on, tensor([[math.inf]]), lambda x: x)
