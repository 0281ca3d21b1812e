"""The sections of a configuration: one frozen dataclass for each concern.

The defaults are those of the published runs (`llm/configs/`, where every value carries its source) and
not of this machine.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    path: str = "Qwen/Qwen3-1.7B-Base"
    """Hub name or local folder of the policy at the start; safetensors, or `gguf_file`; no remote code."""
    gguf_file: str | None = None
    """Name of a GGUF file in that folder or repository, whose weights are taken (extra `gguf`)."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the forward pass; log-softmax is always in float32."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention implementation of transformers."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""


@dataclass(frozen=True)
class DataConfig:
    source: str = "BytedTsinghua-SIA/DAPO-Math-17k"
    """Hub name of a data set, a .parquet or .jsonl file, or `arithmetic` for generated problems."""
    split: str = "train"
    """Split of a hub data set; of generated problems `train` or `held_out`."""
    template: Literal["chat", "raw"] = "chat"
    """`chat`: the chat template of the tokenizer around the messages; `raw`: their text as it stands."""
    instruction: Literal["none", "answer", "boxed", "answer_and_boxed"] = "none"
    """The request around the problem for the form of the answer (`problems.INSTRUCTIONS`)."""
    max_prompt_tokens: int = 2000
    """Longer prompts are dropped and counted."""
    levels: tuple[int, ...] = (2, 3, 4)
    """Digits of the first factor of generated problems."""
    problems: int = 4096
    """How many problems are generated."""
    seed: int = 0
    """Of the order of the prompts and of generated problems."""


@dataclass(frozen=True)
class SamplingConfig:
    prompts: int = 128
    """Prompts of one rollout."""
    group_size: int = 16
    """G, responses to each prompt."""
    max_response_tokens: int = 18000
    """A response is cut here, the EOS token counted."""
    temperature: float = 1.0
    """Divides the logits when sampling and in every log-probability: the policy is the tempered model."""
    sampler: Literal["auto", "continuous", "vllm", "generate", "own"] = "auto"
    """Continuous batching of transformers, vLLM, plain `generate`, or the loop with a cache of its own."""
    max_rows: int = 128
    """Responses sampled at once by `generate` and `own`."""


@dataclass(frozen=True)
class EstimatorConfig:
    """A name, and the parameters to change; those that the named estimator does not have are refused."""

    name: str = "dapo"
    """A name of ticgrpo_theory.estimators.ESTIMATORS, or `module:attribute` for one of your own."""
    eps_low: float | None = None
    """Ratios of responses with A < 0 are clipped below 1 - eps_low."""
    eps_high: float | None = None
    """Ratios are clipped above 1 + eps_high."""
    cap: float | None = None
    """Dual clip: ratios of responses with A < 0 are clipped above."""
    log_limit: float | None = None
    """Dual clip: log-ratios are clipped beyond, for either sign of A."""
    rate: float | None = None
    """`tic_grpo_released`: the upper clip is exp(rate sqrt(length))."""
    lower: float | None = None
    """`gmpo`: limit of token log-ratios where A < 0."""
    upper: float | None = None
    """`gmpo`: limit of token log-ratios where A > 0."""
    delta: float | None = None
    """Added to the standard deviation of the rewards."""
    ddof: Literal[0, 1] | None = None
    """The standard deviation divides by G - ddof (the paper 0, verl and TRL 1)."""
    scale: Literal["sequence_mean", "token_mean", "sequence_sum", "constant"] | None = None
    """The factor in front of a response, where it is not to be the estimator's own."""


@dataclass(frozen=True)
class UpdatesConfig:
    inner_steps: int = 4
    """K, optimiser steps between two rollouts."""
    batches: Literal["disjoint", "reused"] = "disjoint"
    """`disjoint`: each response is used in one step; `reused`: in all K of them."""
    mini_batch: int | None = None
    """Prompts of one step, with all their responses: prompts / K if disjoint, all if reused (the default)."""
    token_mean: Literal["group", "batch"] = "group"
    """Tokens that the scale `token_mean` divides by: those of the group, or of the mini-batch."""
    micro_batch_rows: int = 32
    """Responses of one forward and backward pass at most."""
    micro_batch_tokens: int | None = None
    """Tokens of one pass at most, padding counted; no limit where left out."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, with a linear warm-up to a constant learning rate."""

    lr: float = 1e-6
    """eta, the learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled from the gradient."""
    warmup_steps: int = 0
    """Optimiser steps until the full learning rate."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient; not clipped where left out."""


@dataclass(frozen=True)
class KLConfig:
    beta: float = 0.0
    """Factor of the penalty; 0 for none."""
    reference: str | None = None
    """Model to stay close to: hub name, folder, or `initial` for the policy at the start."""
    divergence: Literal["k1", "k2", "k3"] = "k3"
    """Estimate of the divergence from sampled tokens (ticgrpo_theory.estimators.penalties)."""
    place: Literal["loss", "reward"] = "loss"
    """A term of the loss, differentiated, or a part of the reward."""


@dataclass(frozen=True)
class DynamicSamplingConfig:
    """Groups of equal rewards are replaced by new prompts. Source: arXiv:2503.14476 v2 (DAPO), Eq. 11."""

    enabled: bool = False
    """Whether to sample until every group has unequal rewards."""
    max_rounds: int = 10
    """Rounds of sampling for one rollout; beyond, it goes on with the groups that it has."""


@dataclass(frozen=True)
class RewardConfig:
    kind: Literal["integer", "math_verify"] = "integer"
    """The last integer of the response, compared strictly, or math-verify in a guarded process."""
    values: Literal["zero_one", "plus_minus_one"] = "zero_one"
    """Reward of a wrong and of a right answer: 0 and 1, or -1 and 1."""
    overlong_buffer: int = 0
    """Tokens before the response limit over which the length is punished linearly; 0 for no punishment."""
    overlong_factor: float = 1.0
    """The punishment at the limit."""
    deadline: float = 2.0
    """Seconds for one answer in math-verify; a time-out scores as a wrong answer and is counted."""


@dataclass(frozen=True)
class EvaluationConfig:
    every: int = 0
    """Rollouts between two evaluations; 0 for none."""
    source: str | None = None
    """Held-out problems: hub name, file, or `arithmetic`."""
    split: str = "test"
    """Split of a hub data set; of generated problems `held_out`."""
    problems: int | None = None
    """How many; all of them where left out."""
    k: int = 1
    """Responses to each problem."""
    temperature: float = 0.0
    """0 takes the likeliest token."""


@dataclass(frozen=True)
class CheckpointConfig:
    every: int = 1
    """Rollouts between two checkpoints: what a killed run computes again, at most."""
    keep: int = 2
    """Checkpoints kept; an unreadable one falls back to the one before."""


@dataclass(frozen=True)
class Sections:
    """Every section, and what belongs to none; values are not yet compared."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The policy."""
    data: DataConfig = field(default_factory=DataConfig)
    """The prompts."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Rollouts."""
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    """The gradient."""
    updates: UpdatesConfig = field(default_factory=UpdatesConfig)
    """Optimiser steps on a rollout."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW."""
    kl: KLConfig = field(default_factory=KLConfig)
    """Penalty for leaving a reference."""
    dynamic_sampling: DynamicSamplingConfig = field(default_factory=DynamicSamplingConfig)
    """Replacing groups without variation."""
    reward: RewardConfig = field(default_factory=RewardConfig)
    """The reward of an answer."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Held-out accuracy during training."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """What is kept to resume from."""
    outer_steps: int = 144
    """N, rollouts of the run."""
    seed: int = 0
    """Of sampling; the order of the prompts has its own, `data.seed`."""
    output: Path = Path("runs/default")
    """Folder of logs and checkpoints."""
