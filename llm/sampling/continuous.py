"""The sampler `continuous`: continuous batching of transformers, on the network itself or on a copy of it."""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from llm.model import LanguageModel
from llm.sampling.local import evaluating, own_config
from llm.sampling.protocol import SampledResponses, SamplingDistribution, integer


@dataclass(eq=False)
class Continuous:
    """Continuous batching of transformers: a finished response gives its place to the next prompt at once.

    It draws in a thread of its own, where autocast does not reach: a network with float32 weights that
    computes in bfloat16 draws from a copy in bfloat16, refreshed for every rollout. The two round
    differently; the gap between sampler and trainer, which is logged, includes it.
    """

    model: LanguageModel
    max_rows: int
    """Responses drawn at once on a CPU; a GPU takes what fits into its memory."""
    autocast: torch.dtype | None = None
    twin: nn.Module | None = dataclasses.field(default=None, init=False)

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        copies: int,
        distribution: SamplingDistribution,
        *,
        generator: torch.Generator,
    ) -> SampledResponses:
        network, rows = self.weights(), [list(p) for p in prompts for _ in range(copies)]
        attention, seed = network.config._attn_implementation, integer(generator)
        devices = [] if self.model.device.type == "cpu" else [self.model.device]
        sampling = dataclasses.replace(self.model, network=network)
        with (
            evaluating(network),
            own_config(sampling, distribution, distribution.temperature) as config,
            torch.random.fork_rng(devices=devices),
        ):
            torch.manual_seed(seed)
            manager = network.init_continuous_batching(
                generation_config=config, continuous_batching_config=self.config(rows, distribution, seed)
            )
            try:
                # Requests that wait before the thread starts are scheduled alike in every run.
                names = manager.add_requests(inputs=rows, max_new_tokens=distribution.limit)
                manager.start()
                done = finished(manager, len(rows))
            finally:
                manager.stop(block=True)
                manager.destroy()
                if network.config._attn_implementation != attention:
                    network.set_attn_implementation(attention)
        found = [done[name] for name in names]
        logps = None if distribution.temperature == 0 else [r.logprobs for r in found]
        responses = [r.generated_tokens for r in found]
        return SampledResponses.of_lists(
            rows, responses, logps, self.model.eos, self.model.pad, self.model.device
        )

    def weights(self) -> Any:
        """The network, or its copy in the precision of the update's matrix products."""
        network = self.model.network
        if self.autocast in (None, next(network.parameters()).dtype):
            return network
        if self.twin is None:
            self.twin = copy.deepcopy(network).to(self.autocast).requires_grad_(False)
        with torch.no_grad():
            for theirs, ours in zip(self.twin.parameters(), network.parameters(), strict=True):
                theirs.copy_(ours)
        return self.twin

    def config(self, rows: list[list[int]], distribution: SamplingDistribution, seed: int) -> Any:
        from transformers import ContinuousBatchingConfig

        own = {"return_logprobs": distribution.temperature != 0, "seed": seed}
        if self.model.device.type == "cpu":  # its free memory says nothing about a good size of the cache
            block, longest = 32, max(map(len, rows))
            at_once = min(self.max_rows, len(rows))
            own |= {
                "block_size": block,
                "num_blocks": at_once * (-(-(longest + distribution.limit) // block) + 1),
                "max_batch_tokens": max(longest, at_once),
            }
        return ContinuousBatchingConfig(**own)


def finished(manager: Any, number: int) -> dict[str, Any]:
    """Every response by the name of its request; raises RuntimeError where the thread died before."""
    done: dict[str, Any] = {}
    while len(done) < number:
        result = manager.get_result(timeout=1)
        if result is None:
            if not manager.is_running():
                cause = getattr(manager, "fatal_error", None)
                raise RuntimeError(
                    f"continuous batching ended with {len(done)} of {number} responses: {cause!r}; lower "
                    f"sampling.prompts or sampling.max_response_tokens, or take sampling.sampler = own"
                ) from cause
        elif result.error is not None:
            raise RuntimeError(f"continuous batching failed: {result.error}; take sampling.sampler = own")
        elif result.is_finished():
            done[result.request_id] = result
    return done
