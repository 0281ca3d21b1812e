"""Held-out accuracy while training: the rows and intervals of `llm.evaluate`, by the model as it stands."""

from dataclasses import dataclass
from pathlib import Path

from llm.config.config import Config
from llm.config.sections import DataConfig
from llm.data import problems as data
from llm.data.problems import Problem
from llm.evaluation import pass_at_k
from llm.evaluation.evaluate import responding, rows
from llm.sampling.collect import Judge
from llm.sampling.protocol import Sampler, SamplingDistribution
from llm.training.metrics_file import Line, encoded
from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.stats.rng import stream


def source(config: Config) -> DataConfig:
    """The held-out problems, with the template and instruction of the training prompts."""
    evaluation = config.evaluation
    return DataConfig(
        source=str(evaluation.source),
        split=evaluation.split,
        template=config.data.template,
        instruction=config.data.instruction,
        max_prompt_tokens=config.data.max_prompt_tokens,
        levels=config.data.levels,
        problems=evaluation.problems or config.data.problems,
        seed=config.data.seed,
    )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out problems, and what draws and judges their responses."""

    problems: tuple[Problem, ...]
    tokenizer: object
    sampler: Sampler
    judge: Judge
    config: Config

    @classmethod
    def load(cls, tokenizer: object, sampler: Sampler, judge: Judge, config: Config) -> "HeldOut":
        prompts = data.load(source(config), tokenizer)  # type: ignore[arg-type]
        return cls(prompts.problems[: config.evaluation.problems], tokenizer, sampler, judge, config)

    def __call__(self, rollouts: int) -> Line:
        """Accuracy after so many rollouts, with its interval; writes a table of the problems.

        Every evaluation draws the same random numbers, so that two of them differ by their weights.
        """
        evaluation, made = self.config.evaluation, []
        sampling = SamplingDistribution(self.config.sampling.max_response_tokens, evaluation.temperature)
        respond = responding(self.sampler, self.tokenizer, sampling)
        chunk = max(1, self.config.sampling.max_rows // evaluation.k)
        for number, at in enumerate(range(0, len(self.problems), chunk)):
            generator = stream(self.config.seed, "evaluation", number)
            made += rows(self.problems[at : at + chunk], evaluation.k, respond, self.judge, generator)
        path = self.config.output / "evaluations" / f"{rollouts:06d}.jsonl"
        replace_files({Path(path): b"".join(map(encoded, made))})
        value, low, high = pass_at_k.average([row["right"] for row in made], evaluation.k)
        return {
            "rollout": rollouts,
            "problems": len(made),
            "k": evaluation.k,
            "accuracy": value,
            "accuracy_low": low,
            "accuracy_high": high,
            "length": sum(row["mean_length"] for row in made) / len(made),
            "share_cut": sum(row["cut"] for row in made) / (len(made) * evaluation.k),
        }
