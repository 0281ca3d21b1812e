"""protocol.py: the stated distribution, and the responses that a sampler returns."""

import math

import pytest
import torch

from llm.sampling.protocol import SampledResponses, SamplingDistribution
from tests.properties.tolerances import EXACT


def test_the_distribution_is_the_tempered_softmax_by_hand():
    """Logits log 1, log 2, log 4: probabilities 1/7, 2/7, 4/7, and at temperature 1/2 1/21, 4/21, 16/21."""
    logits = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64).log()
    for temperature, shares, total in ((1.0, [1, 2, 4], 7), (0.5, [1, 4, 16], 21), (0.0, [1, 2, 4], 7)):
        found = SamplingDistribution(5, temperature).log_probabilities(logits)
        expected = torch.tensor([[n / total for n in shares]], dtype=torch.float64)
        torch.testing.assert_close(found.exp(), expected, **EXACT)
    assert SamplingDistribution(5).log_probabilities(logits.bfloat16()).dtype == torch.float32


def drawn() -> SampledResponses:
    """EOS is 1: the second response is cut."""
    prompts, responses = [[5, 6], [5, 6], [7]], [[2, 1], [3, 4, 2], [1]]
    return SampledResponses.of_lists(
        prompts, responses, [[-0.5, -0.25], [-1.0, -2.0, -3.0], [-4.0]], [1], 0, "cpu"
    )


def test_responses_without_eos_were_cut_and_padding_has_no_log_probability():
    found = drawn()
    assert found.ended.tolist() == [True, False, True]
    assert found.logp.tolist() == [[-0.5, -0.25, 0.0], [-1.0, -2.0, -3.0], [-4.0, 0.0, 0.0]]


def test_rows_are_chosen_with_what_belongs_to_them():
    found = drawn().select(torch.tensor([2, 0]))
    assert found.sequences.response.tolist() == [[1, 0], [2, 1]]
    assert (found.logp.tolist(), found.ended.tolist()) == ([[-4.0, 0.0], [-0.5, -0.25]], [True, True])


def test_what_a_sampler_owes_is_checked():
    drawn().check(3, 1, 3)
    for prompts, limit in ((2, 3), (3, 2)):
        with pytest.raises(
            ValueError, match=rf"gave 3 responses of up to 3 tokens where {prompts} x 1 of up to {limit}"
        ):
            drawn().check(prompts, 1, limit)
    with pytest.raises(ValueError, match="1 of 1 responses have tokens whose log-probability is not finite"):
        SampledResponses.of_lists([[5]], [[1]], [[math.nan]], [1], 0, "cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0,), "limit = 0"), ((3, -1.0), "temperature = -1.0"), ((3, float("nan")), "nan")],
)
def test_limits_and_temperatures_that_are_none_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        SamplingDistribution(*arguments)
