"""`ticgrpo` as a user types it, in a folder with files of the user's own."""

import inspect
import json
import shlex
from pathlib import Path
from typing import Any

from ticgrpo_theory.cli import main

ROOT = Path(__file__).parents[2]

MINE_YAML = """
kind: prefix_tree
tokens: [a, b, stop]
horizon: 3
eos: stop
reward: {a b stop: 1, b a stop: 0.5, a a a: 1e-1}
"""

MINE_PY = '''
"""An objective, a factory, an estimator, worlds, and an experiment."""
import dataclasses

import torch

from ticgrpo_theory.estimators import ESTIMATORS
from ticgrpo_theory.estimators.catalogue import grpo
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import World, first_token

RESULTS_VERSION = 1
ENTRY = ESTIMATORS["dapo"]


def mine(batch, power=1.0):
    ratio = (batch.logp - batch.logp_old).exp() * batch.mask
    return (batch.reward[:, None] ** power * ratio).sum() / len(batch.reward)


def narrow(eps: float = 0.1):
    return grpo(eps, eps)


def build():
    return TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=[0.0, 1.0, 1.0, 0.0])


def started():
    return build(), torch.tensor([[0.5, 0.0], [0.0, 0.25], [0.0, 0.0]])


def pair():
    return TokenMDP.automaton([[0, 1], [1, 0]], 2, 2, [0.0, 1.0], rows=[0, 0])


def loss(logp, logp_old, advantages, mask, scale=1.0):
    ratio = (logp - logp_old).exp()
    return -scale * (advantages[:, None] * ratio * mask).sum() / len(mask)


WORLD = World(pair, first_token(0.7))


@dataclasses.dataclass(frozen=True)
class Config:
    etas: tuple[float, ...] = (0.1,)


def rows(cfg: Config):
    return [{"eta": eta, "twice": 2 * eta} for eta in cfg.etas]
'''


def make_own(folder: Path) -> Path:
    """The files that the examples name."""
    (folder / "mine.yaml").write_text(MINE_YAML, encoding="utf-8")
    (folder / "mine.py").write_text(MINE_PY, encoding="utf-8")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    return folder


def run(*args: str) -> int:
    """The exit code."""
    try:
        return main.main(args)
    except SystemExit as stop:
        return int(stop.code or 0)


def answer(capsys: Any, *args: str) -> dict[str, Any]:
    """What --json prints, and nothing else on stdout."""
    capsys.readouterr()
    assert run(*args, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: Any, *args: str) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert run(*args) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("error: ")
    return printed.err.removeprefix("error: ").strip()


def examples(command: str) -> list[list[str]]:
    """The commands that the help of a command shows."""
    lines = (inspect.getdoc(main.COMMANDS[command]) or "").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("ticgrpo ")]


def readme_commands() -> list[list[str]]:
    """The commands that README.md shows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("    ticgrpo ")]
