"""responses/enumeration.py: probabilities and sums of four responses by hand, padding, lost responses."""

import math

import numpy as np
import pytest
import torch

from tests.instances.worlds_by_hand import eos_tree
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.exact.responses import enumeration
from ticgrpo_theory.exact.responses.enumeration import Policies

EVEN = torch.zeros(3, 2, dtype=torch.float64)
TILTED = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
GRAPH = eos_tree([4.0, 3.0, 2.0, 1.0]).graph


def close(found, expected) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, **EXACT)


def test_probabilities_of_four_responses_by_hand():
    # (0,0,0), (0,0,1), (0,1), (1): token 0 of the first row has 3/4 under theta.
    every = enumeration.responses(GRAPH, Policies(TILTED, EVEN))
    close(every.prob, [1 / 8, 1 / 8, 1 / 4, 1 / 2])
    close(every.logp.sum(dim=1).exp(), [3 / 16, 3 / 16, 3 / 8, 1 / 4])
    assert every.mask.sum(dim=1).tolist() == [3, 3, 2, 1]
    assert every.reward.tolist() == [4.0, 3.0, 2.0, 1.0]


def test_weights_of_a_value_by_hand():
    found = enumeration.value_weights(GRAPH, EVEN, GRAPH.reward)
    # Row (): token 0 sum P r = 4/8 + 3/8 + 2/4, token 1 1/2; row (0): 7/8 and 1/2; row (0,0): 1/2 and 3/8.
    close(found, [[11 / 8, 1 / 2], [7 / 8, 1 / 2], [1 / 2, 3 / 8]])
    other = enumeration.value_weights(GRAPH, TILTED, GRAPH.reward)
    assert float((found - other).abs().max()) > VISIBLE


def test_groups_are_taken_by_number_and_one_by_one():
    every = enumeration.responses(GRAPH, Policies(TILTED, EVEN, TILTED))
    pair = every.batch(torch.tensor([[3, 0]]), 9)
    assert pair.reward.tolist() == [[1.0, 4.0]] and pair.horizon == 9
    close(pair.logp[0], every.logp[[3, 0]])
    alone = every.alone(3)
    assert alone.logp.shape == (4, 1, 3) and alone.logp_ref is not None
    close(alone.logp_ref[:, 0], every.logp)


def test_a_masked_token_leaves_its_responses_out():
    masked = EVEN.clone()
    masked[0, 1] = -math.inf
    every = enumeration.responses(GRAPH, Policies(masked, masked))
    close(every.prob, [1 / 4, 1 / 4, 1 / 2])


def test_a_response_that_theta_old_cannot_reach_in_float64_is_refused():
    far = EVEN.clone()
    far[0, 0] = -800.0
    with pytest.raises(ValueError, match=r"response \[0, 1\] has log-probability -800.693 under theta_old"):
        enumeration.responses(GRAPH, Policies(EVEN, far))


def test_padding_reads_a_token_that_every_policy_draws():
    masked = EVEN.clone()
    masked[0, 0] = -math.inf
    every = enumeration.responses(GRAPH, Policies(TILTED, EVEN))
    padded = enumeration.with_padding(every, Policies(TILTED, EVEN, None))
    close(padded.logp[3, 1:], [math.log(3 / 4)] * 2)
    close(padded.logp[:, 0], every.logp[:, 0])
    found = enumeration.with_padding(every, Policies(TILTED, EVEN, masked))
    assert found.paths.tokens[3, 1:].tolist() == [1, 1]


def test_coefficients_at_padding_count_where_they_are_not_zero():
    every = enumeration.with_padding(enumeration.responses(GRAPH, Policies(EVEN, EVEN)), Policies(EVEN, EVEN))
    c = torch.zeros(4, 3, dtype=torch.float64)
    c[3, 2] = 0.5
    close(enumeration.scatter(every.paths, c, 3, 2), [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]])
