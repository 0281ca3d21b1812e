"""The world, the group and the estimators of the printed decompositions."""

import pytest
import torch
from torch import Tensor

from tests.oracles.definitions import multiset_groups
from tests.properties.tolerances import PRINTED
from ticgrpo_theory.estimators.catalogue import grpo, tic_grpo_eq11
from ticgrpo_theory.exact.decomposition.expected_terms import prepared
from ticgrpo_theory.exact.decomposition.group_terms import Responses
from ticgrpo_theory.exact.decomposition.terms import Versions
from ticgrpo_theory.mdp import TokenMDP

RESPONSES = [(0, 0, 0), (0, 0, 1), (0, 1), (1,)]
REWARDS = dict(zip(RESPONSES, [1.0, 0.0, 0.0, 1.0], strict=True))
TREE = TokenMDP.prefix_tree(vocab_size=2, horizon=3, reward=REWARDS.__getitem__, eos=1)
OLD = [[0.2, -0.1], [0.3, 0.0], [-0.2, 0.4]]
THETA = [[0.9, -0.6], [-0.5, 0.6], [0.5, -0.3]]
GROUP = (0, 2, 3, 1)
EQ7, EQ11 = grpo(0.2, 0.28, delta=0.0), tic_grpo_eq11(0.28, delta=0.0)
BOTH = pytest.mark.parametrize("estimator", [EQ7, EQ11], ids=["eq7", "eq11"])


def every_group(mdp, theta, theta_old, estimator, G: int) -> tuple[Tensor, Tensor, Versions]:
    """Of every multiset M of responses of theta_old: probability [M], g_hat and terms [M, S, V]."""
    responses = Responses(prepared(mdp, theta, theta_old, estimator, G).one)
    members, prob = zip(*multiset_groups(responses.prob_old.tolist(), G), strict=True)
    return torch.tensor(prob, dtype=torch.float64), *responses.decomposed(torch.tensor(members))


def close(found, printed, digits: int) -> None:
    found, printed = (torch.as_tensor(x, dtype=torch.float64) for x in (found, printed))
    torch.testing.assert_close(found, printed, **PRINTED(digits))
