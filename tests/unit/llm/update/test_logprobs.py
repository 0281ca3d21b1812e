"""logprobs.py: which token meets which state, whatever stands around it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.exactness.toy_world import padded_further
from llm.sequences import Sequences
from llm.update.logprobs import Scoring, log_probabilities, spread
from tests.mutants.mutants import Mutant, plant
from tests.properties.tolerances import EXACT, SINGLE
from tests.unit.llm.llm_cases import distributions, fresh, gradient, model, one_by_one, sequences

HALF = {"atol": 0.05, "rtol": 0.05}
"""bfloat16 through two layers: three significant digits, log-probabilities of size ten."""


def check_definition(**options) -> None:
    found = Scoring(**options)(model().network, sequences())
    expected = one_by_one(model(), sequences(), options.get("temperature", 1.0))
    torch.testing.assert_close(found.logp.detach(), expected, **EXACT)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.6}, {"head_chunk": 5}, {"head_chunk": 1}])
def test_log_probabilities_are_those_of_a_forward_pass_over_the_tokens_before(options):
    check_definition(**options)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_both_architectures_give_the_log_probabilities_of_the_definition(kind):
    found = Scoring()(model(kind).network, sequences()).logp.detach()
    torch.testing.assert_close(found, one_by_one(model(kind), sequences()), **EXACT)


LOGPROB_MUTANTS = [
    Mutant("one state late", Scoring.states, "+ t - 1", "+ (t + 1).clamp(max=5) - 1", check_definition),
    Mutant("states of the padded row", Scoring.states, "hidden.shape[1]", "ids.shape[1]", check_definition),
    Mutant(
        "temperature multiplies",
        Scoring.head_scores,
        "logits / self.temperature",
        "logits * self.temperature",
        lambda: check_definition(temperature=0.6),
    ),
    Mutant(
        "prompts not aligned",
        Sequences.aligned,
        "- self.prompt_lengths",
        "- 0 * self.prompt_lengths",
        check_definition,
    ),
    Mutant(
        "first token of a prompt lost", Sequences.aligned, "columns + (", "columns + 1 + (", check_definition
    ),
]


@pytest.mark.parametrize("mutant", LOGPROB_MUTANTS, ids=lambda m: m.name)
def test_a_mistake_in_the_log_probabilities_is_noticed(mutant, monkeypatch):
    mutant.check()
    plant(mutant, monkeypatch)
    with pytest.raises((AssertionError, IndexError)):
        mutant.check()


tokens = st.integers(0, 7)
rows = st.lists(
    st.tuples(st.lists(tokens, min_size=1, max_size=4), st.lists(tokens, min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@given(rows, st.integers(0, 3))
def test_padding_and_neighbours_change_nothing(pairs, columns):
    plain = Sequences.of_lists([p for p, _ in pairs], [r for _, r in pairs], pad=0)
    together = Scoring()(
        model().network, padded_further(columns)(*map(list, zip(*pairs, strict=True)), 0)
    ).logp
    for b in range(len(plain)):
        alone = Scoring()(model().network, plain.select(torch.tensor([b]))).logp[0]
        torch.testing.assert_close(together[b, : len(alone)], alone, **EXACT)


def test_left_padded_rows_with_position_ids_give_the_same_numbers():
    given = sequences()
    logits = (
        model()
        .network(
            input_ids=given.input_ids,
            attention_mask=given.attention_mask.long(),
            position_ids=given.position_ids,
            use_cache=False,
            logits_to_keep=given.response.shape[-1] + 1,
        )
        .logits[:, :-1]
    )
    padded = logits.log_softmax(-1).gather(-1, given.response[..., None]).squeeze(-1).where(given.mask, 0.0)
    torch.testing.assert_close(padded, Scoring()(model().network, given).logp, **EXACT)


def test_without_a_mask_the_same_rows_read_their_padding():
    given = sequences()
    logits = model().network(input_ids=given.input_ids, use_cache=False).logits
    logits = logits[:, given.prompt.shape[-1] - 1 : -1]
    padded = logits.log_softmax(-1).gather(-1, given.response[..., None]).squeeze(-1).where(given.mask, 0.0)
    assert (padded - Scoring()(model().network, given).logp).abs().max() > 0.1


def test_entropy_is_that_of_every_distribution_and_carries_no_gradient():
    scores = Scoring(entropy=True, temperature=0.6, head_chunk=7)(model().network, sequences())
    expected = torch.zeros(sequences().mask.shape, dtype=torch.float64)
    for b, row in enumerate(distributions(model(), sequences(), 0.6)):
        for t, probability in enumerate(row):
            expected[b, t] = -(probability * probability.log()).sum()
    torch.testing.assert_close(scores.entropy, expected, **EXACT)
    assert not scores.entropy.requires_grad and scores.logp.requires_grad


def test_the_entropy_of_a_forbidden_token_is_no_nan():
    head = torch.nn.Linear(1, 3, bias=True)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 0.0, -math.inf]))
    _, entropy = Scoring(entropy=True).head_scores(head, torch.zeros(1, 1), torch.tensor([0]))
    torch.testing.assert_close(entropy, torch.tensor([math.log(2)]), **SINGLE)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_chunks_of_the_head_leave_the_gradient(size):
    found = []
    for chunk in (None, size):
        lm = fresh()
        (Scoring(head_chunk=chunk)(lm.network, sequences()).logp.sin()).sum().backward()
        found.append(gradient(lm))
    torch.testing.assert_close(found[1], found[0], **EXACT)
    assert found[0].abs().max() > 0.1


def test_recomputed_activations_leave_the_gradient():
    found = []
    for recompute in (False, True):
        lm = fresh()
        if recompute:
            lm.network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        Scoring()(lm.network, sequences()).logp.sin().sum().backward()
        found.append(gradient(lm))
    torch.testing.assert_close(found[1], found[0], **EXACT)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, SINGLE), (torch.bfloat16, HALF)])
def test_lower_precision_is_near_and_its_log_softmax_is_float32(dtype, tolerance):
    exact = one_by_one(model(), sequences())
    tolerance = (
        {name: 10 * value for name, value in tolerance.items()} if dtype == torch.float32 else tolerance
    )
    found = Scoring()(model(dtype=dtype).network, sequences()).logp.detach()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, **tolerance)
    assert (found.double() - exact).abs().max() > 0


def test_autocast_computes_in_bfloat16_and_trains_float32():
    lm = fresh(dtype=torch.float32)
    scores = Scoring(autocast=torch.bfloat16, entropy=True, head_chunk=6)(lm.network, sequences())
    scores.logp.sum().backward()
    assert scores.logp.dtype == torch.float32 and gradient(lm).dtype == torch.float32
    exact = one_by_one(model(), sequences())
    torch.testing.assert_close(scores.logp.detach().double(), exact, **HALF)
    assert (scores.logp.detach().double() - exact).abs().max() > 1e-4


def test_a_log_softmax_in_bfloat16_is_rounded_to_three_digits():
    lm = model(dtype=torch.bfloat16)
    fine = Scoring()(lm.network, sequences()).logp.detach()
    coarse = Scoring(softmax_dtype=torch.bfloat16)(lm.network, sequences()).logp.detach()
    assert torch.equal(coarse, coarse.bfloat16().float()) and not torch.equal(fine, fine.bfloat16().float())
    torch.testing.assert_close(coarse, fine, **HALF)


def test_rows_scored_in_parts_lie_at_their_places():
    parts = [torch.tensor([7, 2]), torch.tensor([0, 1, 3, 4, 5]), torch.tensor([11, 6, 8, 9, 10])]
    found = log_probabilities(model().network, sequences(), parts, Scoring(entropy=True))
    whole = Scoring(entropy=True)(model().network, sequences())
    torch.testing.assert_close(found.logp, whole.logp.detach(), **EXACT)
    torch.testing.assert_close(found.entropy, whole.entropy, **EXACT)
    assert not found.logp.requires_grad
    with pytest.raises(ValueError, match=r"parts is empty: give at least one micro-batch"):
        log_probabilities(model().network, sequences(), [], Scoring())


def test_values_are_spread_row_after_row():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert spread(torch.tensor([1.0, 2.0, 3.0]), mask).tolist() == [[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_without_log_probabilities_is_refused(temperature):
    with pytest.raises(ValueError, match=rf"temperature = {temperature}: .* > 0 only; greedy"):
        Scoring(temperature=temperature)


def test_an_empty_chunk_is_refused():
    with pytest.raises(ValueError, match=r"head_chunk = 0: give at least 1 token, or None"):
        Scoring(head_chunk=0)
