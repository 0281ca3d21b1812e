"""Seconds per update of `llm.train` and of TRL's GRPOTrainer: one model, data and settings, in one process.

    python benchmarks/language_model.py       # about a minute on one core

GRPO, 32 prompts x 8 responses of at most 32 tokens, 4 updates on each rollout, AdamW, float32 on the CPU.
Both sample, judge, compute old log-probabilities, update and log; neither evaluates or keeps checkpoints. The
start is a random Qwen3 of 0.3 million parameters with a character tokenizer, on generated multiplications.
"""

import io
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from llm.config.config import Config
from llm.config.sections import (
    CheckpointConfig,
    DataConfig,
    EstimatorConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    UpdatesConfig,
)
from llm.data import arithmetic, rewards
from llm.training import pretrain, train

P, G, LIMIT, K = 32, 8, 32, 4
LR = 1e-5
ROLLOUTS = 4
"""Timed in each turn, after one that is not."""
TURNS = 3


def configured(start: Path, output: Path) -> Config:
    return Config(
        model=ModelConfig(path=str(start), dtype="float32", gradient_checkpointing=False, device="cpu"),
        data=DataConfig(
            source="arithmetic", template="raw", max_prompt_tokens=16, levels=(2, 3), problems=1024
        ),
        sampling=SamplingConfig(
            prompts=P, group_size=G, max_response_tokens=LIMIT, sampler="own", max_rows=P * G
        ),
        estimator=EstimatorConfig(name="grpo"),
        updates=UpdatesConfig(inner_steps=K, batches="reused", micro_batch_rows=P * G),
        optimizer=OptimizerConfig(lr=LR, weight_decay=0.0),
        checkpoints=CheckpointConfig(every=10**6),
        outer_steps=10**6,
        output=output,
    )


def ours(start: Path, folder: Path) -> float:
    """Seconds per update."""
    with train.prepared(configured(start, folder / "ours"), say=lambda line: None) as run:
        run.loop.rollout()
        began = time.perf_counter()
        for _ in range(ROLLOUTS):
            run.loop.rollout()
        return (time.perf_counter() - began) / (ROLLOUTS * K)


def theirs(start: Path, folder: Path) -> float:
    """Seconds per update of trl.GRPOTrainer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    problems = arithmetic.problems("train", 1024, (2, 3), seed=0)
    data = Dataset.from_dict(
        {"prompt": [p.question for p in problems], "truth": [p.answer for p in problems]}
    )

    def reward(completions: list[str], truth: list[int], **_: object) -> list[float]:
        return [float(rewards.correct(c, t)) for c, t in zip(completions, truth, strict=True)]

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            ends.append(time.perf_counter())

    settings = their_settings(folder / "theirs")
    trainer = GRPOTrainer(str(start), reward, args=settings, train_dataset=data, callbacks=[Clock()])
    with quiet():
        trainer.train()
    return (ends[-1] - ends[K - 1]) / (ROLLOUTS * K)


def their_settings(output: Path) -> Any:
    """A GRPOConfig of the same run as `configured`."""
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(output),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=P * G,
        num_generations=G,
        num_iterations=K,
        max_completion_length=LIMIT,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        loss_type="grpo",
        beta=0.0,
        epsilon=0.2,
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_steps=(ROLLOUTS + 1) * K,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the lines that a trainer prints for every step."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):
        yield


def llm_vs_trl() -> float:
    """Seconds per update of TRL's GRPOTrainer / of llm.train; Qwen3 of 0.3 million parameters, CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = Path(folder) / "start"
            pretrain.save(pretrain.start(pretrain.Plan()), start)
            turns = [(ours(start, Path(folder)), theirs(start, Path(folder))) for _ in range(TURNS)]
    finally:
        torch.set_num_threads(threads)
    own, other = (median(seconds) for seconds in zip(*turns, strict=True))
    print(f"llm.train {own * 1e3:.0f} ms per update, rollout included; trl.GRPOTrainer {other * 1e3:.0f} ms")
    return median(theirs / ours for ours, theirs in turns)


BENCHMARKS = {"llm_vs_trl": llm_vs_trl} if find_spec("trl") is not None else {}

if __name__ == "__main__":
    if not BENCHMARKS:
        raise SystemExit("TRL is not installed: pip install 'ticgrpo-theory[trl]'")
    llm_vs_trl()
