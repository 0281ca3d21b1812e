"""Groups of responses: which sampler draws them, and where its random numbers come from.

    sampler, why = choose("auto", model, ...)
    drawn = sampler(prompts, 16, SamplingDistribution(limit=512), generator=stream(seed, "rollout", number))

A rollout is a function of the weights, the prompts and the generator, and the generator one of the seed and
the number of the rollout: what was drawn before leaves no trace in it, so that a resumed run draws what the
uninterrupted one would have drawn (bit for bit on a CPU).
"""

from collections.abc import Sequence

import torch
import transformers

from llm.model import LanguageModel
from llm.sampling import vllm_engine
from llm.sampling.continuous import Continuous
from llm.sampling.local import Generate, Own
from llm.sampling.protocol import SampledResponses, Sampler, SamplingDistribution

NAMES = ("auto", "continuous", "vllm", "generate", "own")


def choose(
    name: str,
    model: LanguageModel,
    *,
    max_rows: int,
    autocast: torch.dtype | None = None,
    path: str | None = None,
    longest: int | None = None,
) -> tuple[Sampler, str]:
    """The sampler of that name, and a line that says which it is and why.

    `max_rows` responses are drawn at once where the sampler does not decide that itself; `path` and
    `longest` (tokens of a prompt and its response) are for vLLM. "auto" is `own` on a CPU, on a GPU
    continuous batching, or `own` where the installed transformers have none. It never takes vLLM, which
    keeps weights of its own.

    Raises ValueError for an unknown name and a sampler that is not installed.
    """
    if name not in NAMES:
        raise ValueError(f"sampler = {name!r}: choose one of {', '.join(NAMES)}")
    taken, why = automatic(model) if name == "auto" else (name, "as configured")
    if taken == "continuous" and not batches_continuously():
        raise ValueError(
            f"sampler = continuous: transformers {transformers.__version__} has no ContinuousBatchingConfig; "
            f"install 5.10 or later, or take sampler = own"
        )
    if taken != "vllm":
        kind = {"continuous": Continuous, "generate": Generate, "own": Own}[taken]
        return kind(model, max_rows, autocast), f"sampler {taken}: {why}"
    if path is None or longest is None:
        raise ValueError(
            f"sampler = vllm: give the model's path (now {path}), from which vLLM reads the architecture, "
            f"and the tokens of the longest prompt with its response (now {longest})"
        )
    return vllm_engine.Vllm(model, path, longest, max_rows, autocast), f"sampler {taken}: {why}"


def batches_continuously() -> bool:
    """Whether the installed transformers have continuous batching."""
    return hasattr(transformers, "ContinuousBatchingConfig")


def automatic(model: LanguageModel) -> tuple[str, str]:
    """The sampler that "auto" takes for this model, and why."""
    if model.device.type == "cpu":
        return "own", "on a CPU its loop costs least"
    if not batches_continuously():
        return "own", f"transformers {transformers.__version__} has no continuous batching"
    version = transformers.__version__
    return (
        "continuous",
        f"transformers {version} batches continuously, so that no response waits for the longest",
    )


def sample(
    sampler: Sampler,
    prompts: Sequence[Sequence[int]],
    copies: int,
    distribution: SamplingDistribution,
    *,
    generator: torch.Generator,
) -> SampledResponses:
    """`copies` responses to each prompt, checked: as many as requested, none longer than the limit.

    Responses that never end are cut at the limit (`drawn.ended` is False); a response of an EOS token alone
    is a response. Raises ValueError for no prompts and for an empty prompt.
    """
    if not prompts or not all(prompts):
        empty = next((i for i, prompt in enumerate(prompts) if not prompt), None)
        raise ValueError(
            "there are no prompts to respond to: give at least one"
            if empty is None
            else f"prompt {empty} is empty: give it at least one token, a BOS token for instance"
        )
    drawn = sampler(prompts, copies, distribution, generator=generator)
    drawn.check(len(prompts), copies, distribution.limit)
    return drawn
