"""A signature is checked in the first calls of every test, and the package is as it is without the hook."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from tests import signatures
from ticgrpo_theory.estimators.advantages import centred
from ticgrpo_theory.estimators.properties import is_ours
from ticgrpo_theory.estimators.ratios import token

VECTOR, TABLE = torch.zeros(2), torch.zeros(2, 2)


def plain(x: Float[Tensor, " n"]) -> int:
    """Its number of axes, 1."""
    return x.ndim


def test_a_wrong_shape_is_refused_in_the_first_calls_of_each_test_and_only_there():
    checked = jaxtyped(plain, typechecker=pytest.importorskip("beartype").beartype)
    few = signatures.in_first_calls(plain, checked, calls=3)
    for _ in range(2):
        signatures.begin_test()
        assert few(VECTOR) == 1
        for _ in range(2):
            with pytest.raises(TypeCheckError):
                few(TABLE)
        assert few(TABLE) == 2


def test_functions_of_the_package_are_checked_once_more_than_enough_and_known_as_its_own():
    assert signatures.CHECKED > 20
    signatures.begin_test()
    wrong = torch.zeros(3, dtype=torch.float64)
    for _ in range(20):
        with pytest.raises(TypeCheckError):
            token(wrong, wrong)
    assert is_ours(token) and is_ours(centred())
