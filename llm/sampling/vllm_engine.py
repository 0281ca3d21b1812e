"""The sampler `vllm`: an engine in this process and on this GPU, given the weights before every rollout.

vLLM is not a dependency: https://docs.vllm.ai says which version fits which torch. The engine keeps a second
copy of the weights and takes `memory` of the GPU for it and its cache; between rollouts it sleeps and gives
most of that back. Source of the way in which weights are handed over: TRL 1.16,
trl/generation/vllm_generation.py, mode `colocate`. The tests run this file against a stand-in for the engine
that answers the same calls: vLLM itself needs a GPU.
"""

import importlib
import importlib.util
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from llm.model import LanguageModel
from llm.sampling.protocol import SampledResponses, SamplingDistribution, integer


def installed() -> bool:
    return importlib.util.find_spec("vllm") is not None


@dataclass(eq=False)
class Vllm:
    """Raises ValueError where vLLM is not installed."""

    model: LanguageModel
    path: str
    """Hub name or folder from which the engine reads the architecture; the weights are replaced."""
    longest: int
    """Tokens of a prompt and its response together, at most."""
    max_rows: int
    """Responses drawn at once."""
    autocast: torch.dtype | None = None
    memory: float = 0.4
    """Share of the GPU's memory that the engine may take while it draws."""
    engine: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not installed():
            raise ValueError(
                "sampling.sampler = vllm, but vLLM is not installed: pip install vllm in the version that "
                "fits your torch, or take sampling.sampler = auto"
            )

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        copies: int,
        distribution: SamplingDistribution,
        *,
        generator: torch.Generator,
    ) -> SampledResponses:
        vllm = importlib.import_module("vllm")
        self.wake(vllm)
        parameters = [self.parameters(vllm, copies, distribution, seed=integer(generator)) for _ in prompts]
        inputs = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = self.engine.generate(inputs, sampling_params=parameters, use_tqdm=False)
        answers = [answer for output in found for answer in sorted(output.outputs, key=lambda a: a.index)]
        responses = [list(answer.token_ids) for answer in answers]
        logps = [
            [step[token].logprob for step, token in zip(answer.logprobs, answer.token_ids, strict=True)]
            for answer in answers
        ]
        self.engine.sleep(level=2)
        rows = [prompt for prompt in prompts for _ in range(copies)]
        given = logps if distribution.temperature else None
        return SampledResponses.of_lists(
            rows, responses, given, self.model.eos, self.model.pad, self.model.device
        )

    def parameters(self, vllm: Any, copies: int, distribution: SamplingDistribution, seed: int) -> Any:
        """The request for `copies` responses to one prompt, drawn from the whole softmax."""
        return vllm.SamplingParams(
            n=copies,
            temperature=distribution.temperature,
            top_p=1.0,
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            max_tokens=distribution.limit,
            stop_token_ids=list(self.model.eos),
            detokenize=False,
            logprobs=0,  # that of the drawn token alone
            seed=seed,
        )

    def wake(self, vllm: Any) -> None:
        """An engine with the weights that the network has now, its cache of prefixes forgotten."""
        if self.engine is None:
            self.engine = self.start(vllm)
        else:
            self.engine.wake_up(tags=["weights"])
        runner = self.engine.llm_engine.model_executor.driver_worker.model_runner
        for name, parameter in self.model.network.named_parameters():
            runner.model.load_weights([(name, parameter.detach())])
        self.engine.wake_up(tags=["kv_cache"])
        self.engine.reset_prefix_cache()

    def start(self, vllm: Any) -> Any:
        # An engine that is launched from outside runs in this process, where its weights can be written.
        for name, value in {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "localhost",
        }.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("MASTER_PORT", str(free_port()))
        engine = vllm.LLM(
            model=self.path,
            dtype=str(self.autocast or next(self.model.network.parameters()).dtype).removeprefix("torch."),
            max_model_len=self.longest,
            max_num_seqs=self.max_rows,
            gpu_memory_utilization=self.memory,
            enable_sleep_mode=True,
            distributed_executor_backend="external_launcher",
            logprobs_mode="processed_logprobs",
            generation_config="vllm",  # not that of the model
            trust_remote_code=False,
            seed=0,  # draws have the seeds of their requests
        )
        engine.sleep(level=2)
        engine.wake_up(tags=["weights"])
        return engine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
