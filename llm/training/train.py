"""Training: python -m llm.train --config llm/configs/X.yaml [--section.field value ...]

    data -> rollout -> rewards -> old log-probabilities -> K updates -> metrics -> checkpoint -> evaluation

Writes into `output`:

    config.yaml         the configuration as it was used
    metrics.jsonl       a line for each update (`metrics.py` says what the keys are)
    evaluations.jsonl   a line for each evaluation; evaluations/ has a row for each problem
    tensorboard/        the metrics again, where TensorBoard is installed
    checkpoints/        the newest `checkpoints.keep`, each a folder that llm.evaluate takes as --model

Started again with the same configuration, a run goes on behind its newest whole checkpoint. Killed, it loses
what came after that: with `checkpoints.every 1` at most the rollout in flight. On a CPU it then computes what
an uninterrupted run computes, bit for bit.

The published protocol needs the weights of Qwen3-1.7B-Base and one GPU:

    python -m llm.train --config llm/configs/paper_figure2_logs.yaml

Its stages run on a CPU with any small model and local files in the schema of DAPO-Math-17k:

    python -m llm.train --config llm/configs/paper_figure2_logs.yaml --model.path MODEL --data.source FILE \\
        --data.max-prompt-tokens 500 --sampling.prompts 8 --sampling.group-size 4 --updates.mini-batch 2 \\
        --sampling.max-response-tokens 16 --outer-steps 2 --output runs/stages
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console

from llm import model, pretrained
from llm.config import estimator
from llm.config.config import Config, dump, from_command_line
from llm.config.typed_values import plain
from llm.data import problems
from llm.data.problems import Position
from llm.model import LanguageModel
from llm.sampling import rollout
from llm.sampling.collect import Judge, Source
from llm.training import checkpoints, metrics_file
from llm.training.checkpoints import State
from llm.training.heldout import HeldOut
from llm.training.loop import Loop, autocast, microbatches, scoring
from llm.training.memory import naming_sizes
from llm.training.progress import Shown
from llm.update.step import NonFinite, Recipe
from ticgrpo_theory.experiment.atomic import holding, replace_files

Say = Callable[[str], object]


@dataclass(eq=False)
class Run:
    """Everything that a run consists of, at the place where it begins or goes on."""

    loop: Loop
    language_model: LanguageModel
    held_out: HeldOut | None
    evaluated: set[int]
    """Numbers of rollouts after which the model has been evaluated."""


def train(config: Config, console: Console | None = None) -> State:
    """Run to the end of the configuration, from the newest checkpoint of its output folder if there is one.

    Raises ValueError for input that no run can be made of and where another process trains into the same
    folder, MemoryError with the sizes to lower, and NonFinite after saving the batch.
    """
    console = console or Console()
    with ExitStack() as stack:
        stack.enter_context(alone(config.output))
        stack.enter_context(quiet())
        say = console_line(console)
        run = stack.enter_context(prepared(config, say))
        loop = run.loop
        board = metrics_file.Board(config.output / "tensorboard", loop.state.updates)
        stack.callback(board.close)
        say(board.why)
        shown = stack.enter_context(Shown(config.outer_steps, loop.state.rollouts, console))
        while True:
            evaluate(run, shown.say)
            if loop.state.rollouts >= config.outer_steps:
                return loop.state
            lines = loop.rollout()
            metrics_file.append(config.output / "metrics.jsonl", lines)
            for line in lines:
                board.write(line)
            done = loop.state.rollouts
            if done % config.checkpoints.every == 0 or done == config.outer_steps:
                save(run)
            shown.done(lines[-1]["rollout_reward"])


@contextmanager
def prepared(config: Config, say: Say) -> Iterator[Run]:
    """Data, model, optimiser and samplers; the state of the newest checkpoint where there is one."""
    language_model = loaded(config)
    network: Any = language_model.network
    tokenizer: Any = language_model.tokenizer
    prompts = problems.load(config.data, tokenizer)
    check_positions(config, language_model, max(len(problem.tokens) for problem in prompts.problems))
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.optimizer.lr,
        betas=config.optimizer.betas,
        eps=config.optimizer.eps,
        weight_decay=config.optimizer.weight_decay,
    )
    state = begun(config, network, optimizer, say)
    sampler, why = rollout.choose(
        config.sampling.sampler,
        language_model,
        max_rows=config.sampling.max_rows,
        autocast=autocast(config),
        path=config.model.path,
        longest=config.data.max_prompt_tokens + config.sampling.max_response_tokens,
    )
    recipe = Recipe(
        estimator.estimator(config.estimator, config.kl),
        microbatches(config),
        scoring(config, network.config.vocab_size),
        config.updates.token_mean,
        config.optimizer.clip_norm,
    )
    say(f"{model.parameter_count(network):,} parameters on {language_model.device}; {why}")
    say(prompts.counts.sentence())
    with Judge.of(config.reward) as judge:
        source = Source(prompts.problems, tokenizer, sampler, judge, config)
        loop = Loop(config, network, optimizer, recipe, source, reference(config), state)
        held_out = None
        if config.evaluation.every:
            held_out = HeldOut.load(tokenizer, sampler, judge, config)
        lines = metrics_file.repair(config.output / "evaluations.jsonl", state.rollouts + 1)
        yield Run(loop, language_model, held_out, {line["rollout"] for line in lines})


def loaded(config: Config, path: str | None = None) -> LanguageModel:
    """The configured model, or another one in its place, with weights in float32."""
    name = path or config.model.path
    try:
        return pretrained.load(
            name,
            dtype=torch.float32,
            attention=config.model.attention,
            gradient_checkpointing=config.model.gradient_checkpointing,
            device=model.device_named(config.model.device),
            gguf_file=config.model.gguf_file if name == config.model.path else None,
            round_to=torch.bfloat16 if rounded(config, name) else None,
        )
    except OSError as error:
        raise ValueError(
            f"model.path = {name} cannot be loaded ({error}): name a folder with config.json, "
            f"model.safetensors and the files of a tokenizer, or a model of the hub"
        ) from error


def rounded(config: Config, name: str) -> bool:
    """Whether weights are rounded to bfloat16: those of a GGUF file, where bfloat16 computes."""
    gguf = config.model.gguf_file is not None and name == config.model.path
    return gguf and config.model.dtype == "bfloat16"


def reference(config: Config) -> torch.nn.Module | None:
    """The policy that the KL penalty compares with."""
    if config.kl.beta == 0:
        return None
    path = None if config.kl.reference == "initial" else config.kl.reference
    return loaded(config, path).network.requires_grad_(False)


def check_positions(config: Config, language_model: LanguageModel, longest_prompt: int) -> None:
    """Raise ValueError where a response could outrun the positions that the model knows."""
    known = getattr(language_model.network.config, "max_position_embeddings", None)
    needed = longest_prompt + config.sampling.max_response_tokens
    if known is not None and needed > known:
        raise ValueError(
            f"the longest prompt has {longest_prompt} tokens, with sampling.max_response_tokens = "
            f"{config.sampling.max_response_tokens} that is {needed}, but {config.model.path} has {known} "
            f"positions: lower sampling.max_response_tokens or data.max_prompt_tokens"
        )


def begun(config: Config, network: torch.nn.Module, optimizer: torch.optim.Optimizer, say: Say) -> State:
    """The state of the newest whole checkpoint, else that of a beginning; what came after it is removed."""
    state = State(0, 0, Position(), {})
    checkpoints.clear(config.output / "checkpoints")
    checkpoint = checkpoints.newest(config.output / "checkpoints", say)
    if checkpoint is not None:
        state = checkpoints.resume(checkpoint, network, optimizer, plain(config))
        say(f"going on from {checkpoint}: {state.rollouts} rollouts, {state.updates} updates")
    metrics_file.repair(config.output / "metrics.jsonl", state.rollouts)
    replace_files({config.output / "config.yaml": dump(config).encode()})
    return state


def evaluate(run: Run, say: Say) -> None:
    """Held-out accuracy where it is due and not yet known: before the first rollout, and after every n."""
    config, rollouts = run.loop.config, run.loop.state.rollouts
    if run.held_out is None or rollouts in run.evaluated:
        return
    if rollouts % config.evaluation.every == 0 or rollouts == config.outer_steps:
        with naming_sizes("evaluation", config):
            line = run.held_out(rollouts)
        metrics_file.append(config.output / "evaluations.jsonl", [line])
        run.evaluated.add(rollouts)
        say(
            f"after {rollouts} rollouts: {100 * line['accuracy']:.1f} % of {line['problems']} held-out "
            f"problems [{100 * line['accuracy_low']:.1f}, {100 * line['accuracy_high']:.1f}]"
        )


def save(run: Run) -> Path:
    """A checkpoint of the run as it is."""
    loop = run.loop
    return checkpoints.save(
        loop.config.output / "checkpoints",
        loop.state,
        loop.network,
        loop.optimizer,
        tokenizer=run.language_model.tokenizer,
        config=plain(loop.config),
        keep=loop.config.checkpoints.keep,
    )


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """One process at a time trains into a folder."""
    try:
        with holding(output / "run.lock"):
            yield
    except BlockingIOError as error:
        raise ValueError(
            f"another process trains into {output}: wait for it, end it, or name another folder with --output"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers among our own."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def console_line(console: Console) -> Say:
    return lambda sentence: console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """`python -m llm.train`; what the user can mend ends in one line, no traceback."""
    try:
        config = from_command_line(sys.argv[1:])
        state = train(config)
    except (ValueError, OSError, MemoryError, NonFinite) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on from the last checkpoint")
    counted = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in state.counters.items())
    print(f"{state.rollouts} rollouts, {state.updates} updates ({counted}) in {config.output}")
