"""Samplers: they draw from the stated distribution, report its log-probabilities, and repeat themselves."""

import contextlib

import pytest
import torch
import transformers

from llm.model import Architecture, LanguageModel, tiny
from llm.sampling import continuous, local, vllm_engine
from llm.sampling.protocol import SampledResponses, SamplingDistribution
from llm.sampling.rollout import choose, sample
from llm.update.logprobs import Scoring
from tests.properties.montecarlo import assert_mean_is
from tests.properties.tolerances import SINGLE, VISIBLE
from tests.thinned import more, only
from ticgrpo_theory.stats.rng import stream

PROMPTS = [[2, 3, 4], [5, 6, 7, 2, 3], [4]]
SAMPLERS = only(["own", "generate"], ["own", "generate", "continuous"])
"""Continuous batching takes a second for each call; one test of it runs by default."""

LEAKING = {"temperature": 0.6, "top_k": 3, "top_p": 0.5, "min_p": 0.3, "repetition_penalty": 1.5}
"""What the generation config of an Instruct model might say."""


def leaking(std: float) -> LanguageModel:
    found = tiny(Architecture(vocab_size=8, hidden=16, layers=2, eos=1, pad=0), std=std)
    for name, value in LEAKING.items():
        setattr(found.network.generation_config, name, value)
    found.network.generation_config.do_sample = True
    return found


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return leaking(std=0.5)


@pytest.fixture(scope="module")
def flat() -> LanguageModel:
    """A model whose tokens are all seen often, with probabilities that differ."""
    found = leaking(std=0.2)
    assert 0.01 < first_token_distribution(found).min() < 0.5 * first_token_distribution(found).max()
    return found


def drawn(
    model: LanguageModel,
    name: str,
    distribution: SamplingDistribution,
    number: int = 0,
    copies: int = 4,
    **options,
) -> SampledResponses:
    sampler, _ = choose(name, model, max_rows=options.pop("max_rows", 512), **options)
    return sample(sampler, PROMPTS, copies, distribution, generator=stream(0, "rollout", number))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", ["own", "generate", "continuous"])
def test_reported_log_probabilities_are_those_of_the_forward_pass(model, name, temperature):
    found = drawn(model, name, SamplingDistribution(12, temperature))
    forward = Scoring(temperature=temperature)(model.network, found.sequences).logp
    torch.testing.assert_close(found.logp, forward, atol=10 * SINGLE["atol"], rtol=0.0)
    other = Scoring(temperature=temperature + 0.1)(model.network, found.sequences).logp
    assert (found.logp - other).abs().max() > VISIBLE


def first_tokens(model: LanguageModel, name: str) -> torch.Tensor:
    """One-hot rows of the first token of many responses to PROMPTS[0]."""
    sampler, _ = choose(name, model, max_rows=100)
    found = sample(sampler, PROMPTS[:1], 1000, SamplingDistribution(1), generator=stream(1, "rollout"))
    return torch.nn.functional.one_hot(found.sequences.response[:, 0], 8).double()


def first_token_distribution(model: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return model.network(torch.tensor(PROMPTS[:1])).logits[0, -1].double().softmax(dim=-1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_tokens_are_drawn_from_the_whole_softmax_whatever_the_models_own_config_says(flat, name):
    assert_mean_is(first_tokens(flat, name), first_token_distribution(flat), visible=0.1)


@pytest.mark.parametrize("name", ["generate", "continuous"])
def test_the_same_check_rejects_the_models_own_config(flat, name, monkeypatch):
    @contextlib.contextmanager
    def models_own(model, distribution, temperature):
        network = model.network
        config = transformers.GenerationConfig(
            do_sample=True,
            max_new_tokens=distribution.limit,
            eos_token_id=1,
            pad_token_id=0,
            top_k=3,
            top_p=0.5,
        )
        yield config
        assert network.generation_config is not config

    for module in (local, continuous):
        monkeypatch.setattr(module, "own_config", models_own)
    with pytest.raises(AssertionError, match="standard errors from"):
        assert_mean_is(first_tokens(flat, name), first_token_distribution(flat), visible=0.1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_responses_depend_on_seed_and_number_of_the_rollout_alone(model, name):
    first = drawn(model, name, SamplingDistribution(12), number=3)
    torch.rand(17)  # the global stream has moved on
    again = drawn(model, name, SamplingDistribution(12), number=3)
    assert torch.equal(first.sequences.response, again.sequences.response)
    assert torch.equal(first.logp, again.logp)
    other = drawn(model, name, SamplingDistribution(12), number=4)
    assert first.sequences.lengths.tolist() != other.sequences.lengths.tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling_leaves_the_network_and_the_global_random_numbers_as_they_were(model, name):
    network = model.network
    config, attention = network.generation_config, network.config._attn_implementation
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    drawn(model, name, SamplingDistribution(3))
    assert network.training and network.generation_config is config
    assert network.config._attn_implementation == attention
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_are_groups_in_the_order_of_the_prompts_whatever_is_drawn_at_once(model, name):
    found = drawn(model, name, SamplingDistribution(6), copies=3, max_rows=4)
    lengths = found.sequences.prompt_lengths.tolist()
    assert lengths == [3, 3, 3, 5, 5, 5, 1, 1, 1]
    assert found.sequences.prompt[3, -5:].tolist() == PROMPTS[1]
    assert found.logp.shape == found.sequences.response.shape


@pytest.mark.parametrize("name", SAMPLERS)
def test_responses_end_with_eos_or_are_cut_at_the_limit(model, name):
    found = drawn(model, name, SamplingDistribution(5), copies=20)
    response, mask = found.sequences.response, found.sequences.mask
    last = response.gather(1, found.sequences.lengths[:, None] - 1).squeeze(1)
    assert torch.equal(last == 1, found.ended)
    assert (found.sequences.lengths[~found.ended] == 5).all()
    assert ((response == 1) & mask).sum(dim=1).tolist() == found.ended.long().tolist()
    assert found.ended.any() and not found.ended.all()


def always(token: int, eos: int) -> LanguageModel:
    """A model that says one token, whatever came before."""
    found = tiny(Architecture(vocab_size=8, hidden=16, layers=1, eos=eos, pad=0, tied=False))
    with torch.no_grad():
        found.network.get_output_embeddings().weight.zero_()
        found.network.base_model.embed_tokens.weight.fill_(1.0)
        found.network.get_output_embeddings().weight[token] = 30.0
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_response_of_eos_alone_is_a_response(name):
    found = drawn(always(1, eos=1), name, SamplingDistribution(5))
    assert found.sequences.lengths.tolist() == [1] * 12
    assert found.ended.all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_response_that_never_ends_is_cut(name):
    found = drawn(always(4, eos=1), name, SamplingDistribution(5))
    assert found.sequences.lengths.tolist() == [5] * 12
    assert not found.ended.any()


@pytest.mark.parametrize("name", SAMPLERS)
def test_temperature_zero_takes_the_likeliest_token(model, name):
    found = drawn(model, name, SamplingDistribution(6, temperature=0.0), copies=2)
    assert found.logp is None
    with torch.no_grad():
        logits = model.network(torch.tensor(PROMPTS[:1])).logits[0, -1]
    assert found.sequences.response[:2, 0].tolist() == [int(logits.argmax())] * 2


@pytest.mark.parametrize("name", ["own", "generate"])
def test_matrix_products_of_a_sampler_have_the_precision_of_the_update(model, name):
    found = drawn(model, name, SamplingDistribution(12), autocast=torch.bfloat16)
    low = Scoring(autocast=torch.bfloat16)(model.network, found.sequences).logp
    high = Scoring()(model.network, found.sequences).logp
    assert (found.logp - low).abs().mean() < (found.logp - high).abs().mean()


@more
def test_continuous_batching_draws_from_a_copy_in_low_precision_that_follows_the_weights():
    moving = tiny(Architecture(vocab_size=8, hidden=16, layers=2, eos=1, pad=0), std=0.5)
    sampler, _ = choose("continuous", moving, max_rows=32, autocast=torch.bfloat16)
    for scale in (1.0, 0.5):
        with torch.no_grad():
            moving.network.base_model.embed_tokens.weight.mul_(scale)
        found = sample(sampler, PROMPTS, 8, SamplingDistribution(8), generator=stream(0, "rollout"))
        forward = Scoring()(moving.network, found.sequences).logp
        assert 1e-6 < (found.logp - forward).abs().mean() < 0.05
    assert next(moving.network.parameters()).dtype == torch.float32


def test_auto_says_what_it_takes_and_why(model):
    sampler, why = choose("auto", model, max_rows=4)
    assert isinstance(sampler, local.Own)
    assert why == "sampler own: on a CPU its loop costs least"


def test_samplers_that_are_not_there_are_refused(model, monkeypatch):
    with pytest.raises(ValueError, match=r"sampler = 'beam': choose one of auto, continuous, vllm"):
        choose("beam", model, max_rows=4)
    monkeypatch.setattr(vllm_engine, "installed", lambda: False)
    with pytest.raises(ValueError, match=r"vLLM is not installed: .*sampler = auto"):
        choose("vllm", model, max_rows=4, path="somewhere", longest=9)
    with pytest.raises(ValueError, match=r"give the model's path \(now None\)"):
        choose("vllm", model, max_rows=4)


@pytest.mark.parametrize(
    ("prompts", "said"), [([], "there are no prompts"), ([[2], []], "prompt 1 is empty: give it")]
)
def test_nothing_to_respond_to_is_refused(model, prompts, said):
    sampler, _ = choose("own", model, max_rows=4)
    with pytest.raises(ValueError, match=said):
        sample(sampler, prompts, 2, SamplingDistribution(3), generator=stream(0, "rollout"))


def test_a_sampler_that_gives_too_few_responses_is_refused(model):
    real, _ = choose("own", model, max_rows=4)

    def short(prompts, copies, distribution, *, generator):
        return real(prompts, copies - 1, distribution, generator=generator)

    with pytest.raises(ValueError, match=r"gave 9 responses .* where 3 x 4"):
        sample(short, PROMPTS, 4, SamplingDistribution(3), generator=stream(0, "rollout"))


def test_weights_that_are_no_numbers_are_refused():
    broken = tiny(Architecture(vocab_size=8, hidden=16, layers=1, eos=1, pad=0))
    with torch.no_grad():
        broken.network.base_model.embed_tokens.weight[3] = float("nan")
    with pytest.raises(ValueError, match=r"log-probability is not finite: .*before they diverged"):
        drawn(broken, "own", SamplingDistribution(3))
