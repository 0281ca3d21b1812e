"""The sampler `vllm` against a stand-in for the engine, which needs a GPU."""

import sys
import types

import torch

from llm.model import Architecture, tiny
from llm.sampling import vllm_engine
from llm.sampling.protocol import SamplingDistribution
from llm.sampling.rollout import choose, sample
from llm.update.logprobs import Scoring
from tests.properties.tolerances import SINGLE
from ticgrpo_theory.stats.rng import stream

PROMPTS = [[2, 3, 4], [5, 6, 7, 2, 3], [4]]


class Engine:
    """Stands in for vllm.LLM: the same calls, answered by `Own` from the weights that were handed over."""

    def __init__(self, **options):
        self.options, self.calls = options, []
        self.copy = tiny(Architecture(vocab_size=8, hidden=16, layers=2, eos=1, pad=0), seed=99)
        runner = types.SimpleNamespace(model=types.SimpleNamespace(load_weights=self.load))
        worker = types.SimpleNamespace(driver_worker=types.SimpleNamespace(model_runner=runner))
        self.llm_engine = types.SimpleNamespace(model_executor=worker)

    def load(self, named):
        with torch.no_grad():
            for name, value in named:
                self.copy.network.get_parameter(name).copy_(value)

    def sleep(self, level):
        self.calls.append("sleep")

    def wake_up(self, tags):
        self.calls.append(tags[0])

    def reset_prefix_cache(self):
        self.calls.append("reset")

    def generate(self, inputs, sampling_params, use_tqdm):
        self.parameters = sampling_params
        own, _ = choose("own", self.copy, max_rows=64)
        outputs = []
        for entry, request in zip(inputs, sampling_params, strict=True):
            found = sample(
                own,
                [entry["prompt_token_ids"]],
                request.n,
                SamplingDistribution(request.max_tokens, request.temperature),
                generator=stream(request.seed, "engine"),
            )
            answers = []
            for i, length in enumerate(found.sequences.lengths.tolist()):
                tokens = found.sequences.response[i, :length].tolist()
                steps = [
                    {token: types.SimpleNamespace(logprob=value)}
                    for token, value in zip(tokens, found.logp[i].tolist(), strict=False)
                ]
                answers.append(types.SimpleNamespace(index=i, token_ids=tuple(tokens), logprobs=steps))
            outputs.append(types.SimpleNamespace(outputs=answers[::-1]))
        return outputs


def test_vllm_is_given_the_distribution_and_the_weights_of_the_moment(monkeypatch):
    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = Engine, types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(vllm_engine, "installed", lambda: True)
    model = tiny(Architecture(vocab_size=8, hidden=16, layers=2, eos=1, pad=0), std=0.5)
    sampler, _ = choose("vllm", model, max_rows=64, path="somewhere", longest=20)
    for scale in (1.0, 0.5):
        with torch.no_grad():
            model.network.base_model.embed_tokens.weight.mul_(scale)
        found = sample(sampler, PROMPTS, 4, SamplingDistribution(12, 0.7), generator=stream(0, "rollout"))
        forward = Scoring(temperature=0.7)(model.network, found.sequences).logp
        torch.testing.assert_close(found.logp, forward, atol=10 * SINGLE["atol"], rtol=0.0)
    request = sampler.engine.parameters
    assert [(a.top_k, a.top_p, a.repetition_penalty, a.temperature) for a in request] == [
        (0, 1.0, 1.0, 0.7)
    ] * 3
    assert len({a.seed for a in request}) == 3
    assert sampler.engine.calls[:4] == ["sleep", "weights", "kv_cache", "reset"]
    assert sampler.engine.calls[-4:] == ["weights", "kv_cache", "reset", "sleep"]
    assert sampler.engine.options["generation_config"] == "vllm"
