"""What a configuration may not say: values out of range, and fields that exclude each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llm.config.estimator import estimator, min_group, pools_lengths
from ticgrpo_theory.estimators.batches import Batches

if TYPE_CHECKING:
    from llm.config.sections import Sections

AT_LEAST_ONE = (
    "data.max_prompt_tokens",
    "data.problems",
    "sampling.prompts",
    "sampling.group_size",
    "sampling.max_response_tokens",
    "sampling.max_rows",
    "updates.inner_steps",
    "updates.mini_batch",
    "updates.micro_batch_rows",
    "updates.micro_batch_tokens",
    "dynamic_sampling.max_rounds",
    "evaluation.problems",
    "evaluation.k",
    "checkpoints.every",
    "checkpoints.keep",
    "outer_steps",
)
AT_LEAST_ZERO = (
    "optimizer.weight_decay",
    "optimizer.warmup_steps",
    "kl.beta",
    "reward.overlong_buffer",
    "evaluation.every",
    "evaluation.temperature",
)
ABOVE_ZERO = (
    "sampling.temperature",
    "optimizer.lr",
    "optimizer.eps",
    "optimizer.clip_norm",
    "reward.overlong_factor",
    "reward.deadline",
)


def check(config: Sections) -> None:
    """Raise ValueError for the first contradiction, with the fields, their values and a way out."""
    ranges(config)
    mini_batch(config)
    of_estimator(config)
    of_lengths(config)
    of_kl(config)
    of_groups(config)
    of_evaluation(config)


def value(config: Sections, name: str) -> Any:
    """The field of that dotted name."""
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    return found


def ranges(config: Sections) -> None:
    for names, holds, limit in (
        (AT_LEAST_ONE, lambda x: x >= 1, "at least 1"),
        (AT_LEAST_ZERO, lambda x: x >= 0, "at least 0"),
        (ABOVE_ZERO, lambda x: x > 0, "above 0"),
    ):
        for name in names:
            x = value(config, name)
            if x is not None and not (math.isfinite(x) and holds(x)):
                raise ValueError(f"{name} = {x}: it must be {limit} and finite")
    if not all(0 <= beta < 1 for beta in config.optimizer.betas):
        raise ValueError(f"optimizer.betas = {config.optimizer.betas}: both must lie in [0, 1)")
    if any(level < 1 for level in config.data.levels) or not config.data.levels:
        raise ValueError(f"data.levels = {config.data.levels}: give numbers of digits, at least 1")


def mini_batch(config: Sections) -> int:
    """Prompts of one optimiser step: prompts / K if disjoint, all of them if reused."""
    prompts, K, requested = config.sampling.prompts, config.updates.inner_steps, config.updates.mini_batch
    if Batches.of(config.updates.batches) is Batches.REUSED:
        if requested not in (None, prompts):
            raise ValueError(
                f"updates.mini_batch = {requested} with updates.batches = reused: every step uses the whole "
                f"rollout of {prompts} prompts; leave mini_batch out, or take batches = disjoint"
            )
        return prompts
    if prompts % K:
        raise ValueError(
            f"updates.inner_steps = {K} does not divide sampling.prompts = {prompts}: disjoint mini-batches "
            f"are whole groups of one size; change either"
        )
    if requested not in (None, prompts // K):
        raise ValueError(
            f"updates.mini_batch = {requested}, but {prompts} prompts in {K} disjoint steps make "
            f"mini-batches of {prompts // K}; leave mini_batch out, or change inner_steps or sampling.prompts"
        )
    return prompts // K


def of_estimator(config: Sections) -> None:
    """The estimator can be built, and reads the field that averages over tokens."""
    built = estimator(config.estimator, config.kl)
    if config.updates.token_mean == "batch" and not pools_lengths(built):
        raise ValueError(
            f"updates.token_mean = batch, but the scale of {config.estimator.name} is not token_mean and "
            f"would not read it; set estimator.scale = token_mean, or leave token_mean out"
        )
    G, least = config.sampling.group_size, min_group(built)
    if least > G:
        raise ValueError(
            f"sampling.group_size = {G}: the advantage of {config.estimator.name} "
            f"needs groups of at least {least}"
        )


def of_lengths(config: Sections) -> None:
    limit, buffer = config.sampling.max_response_tokens, config.reward.overlong_buffer
    if buffer > limit:
        raise ValueError(
            f"reward.overlong_buffer = {buffer} is longer than sampling.max_response_tokens = {limit}: the "
            f"punishment would begin before the response"
        )
    longest, tokens = config.data.max_prompt_tokens + limit, config.updates.micro_batch_tokens
    if tokens is not None and tokens < longest:
        raise ValueError(
            f"updates.micro_batch_tokens = {tokens} cannot hold one sequence of data.max_prompt_tokens + "
            f"sampling.max_response_tokens = {longest}; raise it, or lower those"
        )


def of_kl(config: Sections) -> None:
    if config.kl.beta > 0 and config.kl.reference is None:
        raise ValueError(
            f"kl.beta = {config.kl.beta} without kl.reference: "
            f"name a model, or `initial` for the policy at the start"
        )
    if config.kl.beta == 0 and config.kl.reference is not None:
        raise ValueError(
            f"kl.reference = {config.kl.reference} with kl.beta = 0: it would be loaded and never read; "
            f"set beta, or leave the reference out"
        )


def of_groups(config: Sections) -> None:
    if config.dynamic_sampling.enabled and config.sampling.group_size < 2:
        raise ValueError(
            f"dynamic_sampling.enabled with sampling.group_size = {config.sampling.group_size}: one reward "
            f"has no variation, so that no group would ever be kept; take groups of at least 2"
        )


def of_evaluation(config: Sections) -> None:
    evaluation = config.evaluation
    if evaluation.every and evaluation.source is None:
        raise ValueError(
            f"evaluation.every = {evaluation.every} without evaluation.source: name the held-out problems"
        )
    if evaluation.temperature == 0 and evaluation.k > 1:
        raise ValueError(
            f"evaluation.k = {evaluation.k} at temperature 0 repeats one response; "
            f"raise the temperature, or take k = 1"
        )
