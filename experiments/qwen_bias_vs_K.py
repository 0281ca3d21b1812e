"""Claim: on a pretrained network the token ratio errs against the current gradient, trajectory_is does not.

    python experiments/qwen_bias_vs_K.py --model FOLDER [--gguf-file NAME]

The weights of Qwen2.5-Coder-0.5B-Instruct are not part of this project; FOLDER is one with its config.json
and safetensors, or a GGUF file. The policy is the softmax over the tokens of the answers that a prompt
allows, so that every group of answers is summed over: nothing is sampled, no error bars. From theta_0 =
theta_old each estimator follows its own mean in all weights, phi_{k+1} = phi_k + step(E[g_hat]), the groups
always drawn from theta_old. Columns are those of bias_vs_K.py, as norms over all weights, with

    optimizer                        plain steps eta E[g_hat], or AdamW with the learning rate eta
    gradient_norm, expected_return   ||grad J(phi_k)||, J(phi_k)
    log_ratio_mean, log_ratio_sd     of log w', the answers drawn from theta_old
    drift                            ||phi_k - phi_old|| over all weights

Prompts: a sum and a product of two digits each, a question with four letters to choose from, and one whose
answers are words of one to three tokens, each closed by the end token, with rewards 0, 1/2 and 1. Float32.
The rows name the SHA-256 of the weights; other weights are refused, because they would make another table.

The committed rows are those of one prompt and one step size, 20 minutes on a busy machine:

    --worlds sum --etas 4e-6 --adamw-rates --estimators trajectory_is grpo tic_grpo gspo no_is stale

Writes results/qwen_bias_vs_K.parquet, results/qwen_bias_vs_K.json and figures/qwen_bias_vs_K.png. Killed and
started again it goes on where it was.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from llm.data.problems import encode
from llm.exact_model.answers import Answers, alphabet, grammar
from llm.exact_model.exact_model import ExactModel, Prompt
from llm.exact_model.inner_products import weights_digest
from llm.exact_model.weight_path import Start, Step, weight_path
from llm.model import LanguageModel
from llm.pretrained import load
from ticgrpo_theory.estimators.catalogue import ESTIMATORS
from ticgrpo_theory.estimators.resolve import check_group_size
from ticgrpo_theory.experiment import experiment
from ticgrpo_theory.experiment.results_file import UNRECORDED
from ticgrpo_theory.plots import real_model as plots_real_model
from ticgrpo_theory.plots.real_model import SINGLE
from ticgrpo_theory.plots.style import select
from ticgrpo_theory.stats.power_law import growth

DIGITS = "0123456789"

RIGHT = {"set": 1.0, "Set": 1.0}
PARTLY = {"frozenset": 0.5}
WRONG = ("list", "dict", "tuple", "string", "List", "Dict", "Tuple")

TURN, END = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"
"""A question without a system message, and the token that ends the answer."""


@dataclass(frozen=True)
class World:
    """A question and what may be answered."""

    question: str
    answers: Callable[[Any, int], Answers]
    """From a tokenizer and the end token."""


WORLDS = {
    "sum": World(
        "What is 17 + 25? Answer with two digits:",
        lambda tokenizer, end: alphabet(tokenizer, DIGITS, 2, lambda text: float(text == "42")),
    ),
    "product": World(
        "What is 7 * 8? Answer with two digits:",
        lambda tokenizer, end: alphabet(tokenizer, DIGITS, 2, lambda text: float(text == "56")),
    ),
    "choice": World(
        'What does the Python expression [1, 2, 3][-1] + len("ab") give? A: 3, B: 4, C: 5, D: an error. '
        "Answer with one letter:",
        lambda tokenizer, end: alphabet(tokenizer, "ABCD", 1, lambda text: float(text == "C")),
    ),
    "word": World(
        "Which Python built-in type keeps its items unique? Answer with one word: list, dict, set, tuple, "
        "frozenset or string.",
        lambda tokenizer, end: grammar(tokenizer, dict.fromkeys(WRONG, 0.0) | PARTLY | RIGHT, end),
    ),
}
"""Prompts by name."""


@dataclass(frozen=True)
class Config(experiment.Folders):
    """What is computed, and where it goes."""

    model: Path | None = field(default=None, metadata=UNRECORDED)
    """Folder of the weights."""
    gguf_file: str | None = field(default=None, metadata=UNRECORDED)
    """Name of a GGUF file in it."""
    digest: str = "1dffca9b1b60b35617376e178120644a2a5770021239a2a32183eaf2ddfc8758"
    """SHA-256 of the weights: those of the committed rows."""
    threads: int = field(default=2, metadata=UNRECORDED)
    """Cores of the network's passes."""
    worlds: tuple[str, ...] = tuple(WORLDS)
    """Prompts, by name."""
    estimators: tuple[str, ...] = (
        "trajectory_is", "grpo", "tic_grpo", "gspo", "no_is", "stale", "tic_grpo_eq11", "prefix_is",
    )  # fmt: skip
    """Estimators, by name."""
    etas: tuple[float, ...] = (4e-7, 1.3e-6, 4e-6)
    """Learning rates of plain steps."""
    adamw_rates: tuple[float, ...] = (1e-8, 1e-7, 1e-6)
    """Learning rates of AdamW."""
    K: int = 4
    """Steps between two refreshes of theta_old; there is a row for each k = 0..K."""
    group_size: int = 8
    """Responses G in a group."""


def check(cfg: Config) -> None:
    """Raise ValueError for a configuration that cannot be run: value, limit, way out."""
    experiment.check_lists(cfg, "worlds", "estimators")
    experiment.check_names(cfg, worlds=WORLDS, estimators=ESTIMATORS)
    if cfg.K < 1:
        raise ValueError(f"K = {cfg.K}: it takes at least 1 step to leave theta_old; give --K 1 or more")
    if not steps(cfg):
        raise ValueError("etas and adamw_rates are empty: give at least one learning rate")
    for name in cfg.estimators:
        check_group_size(cfg.group_size, ESTIMATORS[name])


def steps(cfg: Config) -> list[Step]:
    """Plain steps from the largest down, then AdamW likewise."""
    rates = {"plain": cfg.etas, "adamw": cfg.adamw_rates}
    return [Step(name, eta) for name, of in rates.items() for eta in sorted(of, reverse=True)]


def keys(cfg: Config) -> list[tuple[str, float, str, str]]:
    return [
        (step.optimizer, step.eta, world, name)
        for step in steps(cfg)
        for world in cfg.worlds
        for name in cfg.estimators
    ]


def cell(cfg: Config, optimizer: str, eta: float, world: str, name: str) -> list[dict[str, Any]]:
    """The rows of one estimator on one prompt at one step size: k = 0..K."""
    torch.set_num_threads(cfg.threads)
    start = start_of(cfg.model, cfg.gguf_file, cfg.digest, world)
    points = weight_path(start, name, cfg.group_size, Step(optimizer, eta), cfg.K)
    about = {"world": world, "digest": cfg.digest, "dtype": "float32"}
    return [about | point for point in points]


@functools.lru_cache(maxsize=1)
def language_model(model: Path | None, gguf_file: str | None, digest: str) -> LanguageModel:
    """The network in float32. Raises ValueError without a folder and for other weights than `digest` says."""
    if model is None:
        raise ValueError("--model is missing: the folder of Qwen2.5-Coder-0.5B-Instruct, or of its GGUF file")
    found = load(str(model), gguf_file=gguf_file)
    there = weights_digest(found.network)
    if there != digest:
        raise ValueError(
            f"the weights in {model} have digest {there}, and these rows are of {digest}: load the same "
            f"weights, or give --digest {there} and other folders, --results and --figures"
        )
    return found


@functools.lru_cache(maxsize=1)
def start_of(model: Path | None, gguf_file: str | None, digest: str, world: str) -> Start:
    """theta_old on one prompt, with grad J in all weights."""
    of = language_model(model, gguf_file, digest)
    return Start(exact_model(of, world))


def exact_model(of: LanguageModel, world: str) -> ExactModel:
    """The restricted policy on one prompt."""
    tokens = encode(of.tokenizer, (("user", TURN.format(WORLDS[world].question)),), "raw")
    answers = WORLDS[world].answers(of.tokenizer, of.tokenizer.convert_tokens_to_ids(END))
    return ExactModel(of, [Prompt(tokens, answers)])


def show(cfg: Config, rows: pd.DataFrame, console: Console) -> None:
    """Errors at the largest plain step, and how the error to the current gradient grows with eta k."""
    for optimizer, of in rows.groupby("optimizer"):
        eta, k = of.eta.max(), of.k.max()
        table = Table("estimator", *cfg.worlds, title=f"{optimizer}, {eta:g}, k = {k}: error / ||c grad J||")
        for name in cfg.estimators:
            table.add_row(name, *(relative(of, world, name, eta, k) for world in cfg.worlds))
        console.print(table)
    table = Table("estimator", *cfg.worlds, title="plain steps: slope of the error in eta k")
    for name in cfg.estimators:
        table.add_row(name, *(grown(rows, world, name) for world in cfg.worlds))
    console.print(table)


def relative(rows: pd.DataFrame, world: str, name: str, eta: float, k: int) -> str:
    """Error to the current and to the old gradient, each against its own size; sd of log w'."""
    of = select(rows, world=world, estimator=name, eta=eta).set_index("k").loc[k]
    start = select(rows, world=world, k=0).gradient_norm.iloc[0]
    now = of.bias_current_scaled / (abs(of.scale) * of.gradient_norm)
    old = of.bias_old_scaled / (abs(of.scale) * start)
    return f"{now:.3g} / {old:.3g} (sd {of.log_ratio_sd:.2g})"


def grown(rows: pd.DataFrame, world: str, name: str) -> str:
    """How the error to the current gradient grows; what is float32 rounding counts as zero."""
    of = select(rows, world=world, estimator=name, optimizer="plain")
    seen = of.bias_current_scaled > SINGLE * of.scale.abs() * of.gradient_norm
    columns = (of.eta * of.k, of.bias_current_scaled.where(seen, 0.0), of.clip_fraction > 0)
    return str(growth(*(column.to_numpy() for column in columns)))


def draw(rows: pd.DataFrame) -> Figure:
    return plots_real_model.bias_vs_drift(rows)


# One row for each (world, estimator, optimizer, eta, k).
EXPERIMENT = experiment.Experiment(
    name="qwen_bias_vs_K",
    version=1,
    config=Config,
    check=check,
    keys=keys,
    cell=cell,
    show=show,
    draw=draw,
    what="step sizes x prompts x estimators",
    needs_data=True,
    may_be_missing=("direction_error_current", "direction_error_old", "clip_fraction"),
)
rows, main = EXPERIMENT.rows, EXPERIMENT.main

if __name__ == "__main__":
    EXPERIMENT.command(__doc__)
