"""certified/terms.py: the terms of Eq. 7 and 11 as balls, beside those of the float64 engine."""

import pytest
import torch

from tests.properties.tolerances import EXACT
from ticgrpo_theory.claims.certified import enclosures, terms
from ticgrpo_theory.claims.certified.enclosures import precision, squared_norm
from ticgrpo_theory.claims.certified.rational import IntegerPolicy
from ticgrpo_theory.estimators.catalogue import grpo, tic_grpo_eq11
from ticgrpo_theory.exact import decompose
from ticgrpo_theory.mdp import TokenMDP

OLD = IntegerPolicy(((3, 2), (5, 4), (2, 3)))


NOW = IntegerPolicy(((5, 2), (3, 5), (4, 2)))


MDP = TokenMDP.prefix_tree(vocab_size=2, horizon=3, eos=1, reward=[1, 0.3, 0, 1])


EQ7, EQ11 = grpo(0.2, 0.28, delta=0.0), tic_grpo_eq11(0.28, delta=0.0)

BOTH = pytest.mark.parametrize("estimator", [EQ7, EQ11], ids=["eq7", "eq11"])


def floats(matrix) -> torch.Tensor:
    return torch.tensor([[float(x) for x in row] for row in matrix], dtype=torch.float64)


@BOTH
def test_every_expected_term_is_that_of_the_float64_engine(estimator):
    found = decompose(MDP, NOW.logits(), OLD.logits(), estimator, 3)
    with precision():
        setting = terms.Setting.of(MDP, NOW, OLD, estimator, 3)
        for done, kept in enumerate((found.printed_terms, found.terms)):
            for name in kept:
                if name == "gradient_error" and estimator is EQ11:
                    continue  # Eq. 11 has none
                ball = floats(terms.expected_term(setting, 3, name, bool(done)))
                torch.testing.assert_close(ball, kept[name], **EXACT)


@BOTH
def test_corrected_terms_close_on_every_group_and_printed_ones_on_none_with_clipped_tokens(estimator):
    with precision():
        setting = terms.Setting.of(MDP, NOW, OLD, estimator, 2)
        printed = []
        for group in enclosures.drawn_groups(MDP, OLD, 2):
            as_printed, corrected = terms.residuals(setting, group)
            assert squared_norm(corrected).contains(0)
            printed.append(bool(squared_norm(as_printed) > 0))
    assert sum(printed) >= 6
