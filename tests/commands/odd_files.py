"""Files that the lines of odd_command_lines.py name: worlds, estimators and sweeps, none of them sound."""

from pathlib import Path

import numpy as np
import torch

FEW = "kind: prefix_tree\nvocab_size: 2\nhorizon: 1\nreward: {1: 1}\n"
"""A world of two responses, to which a fault is added."""

BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
"""Ten lines that write out ten thousand million numbers."""

MERGES = "b0: &b0 {k: 1}\n" + "".join(
    f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 30)}]}}\n" for n in range(1, 10)
)

OWN = """
import sys

import torch

from ticgrpo_theory.mdp import TokenMDP


def value(batch):
    return (batch.logp * batch.mask).sum()


def raises(batch):
    return value(batch) / {}["nothing"]


def no_number(batch):
    return float("nan") * value(batch)


def vector(batch):
    return batch.logp


def none(batch):
    return None


def leaves(batch):
    sys.exit(3)


def endless(batch):
    return endless(batch)


def bad_world():
    return TokenMDP.prefix_tree(vocab_size=2, horizon=1, reward=[0.0])


def leaving_world():
    sys.exit(0)


class Kept:
    pass


LIMIT = 3
"""

EXPERIMENT = """
from dataclasses import dataclass
{version}
@dataclass(frozen=True)
class Config:
    etas: tuple[float, ...] = (0.1,)
    size: int = 1

def rows(cfg: Config):
    {body}
"""

TEXTS = {
    "few.yaml": FEW,
    "itself.yaml": "kind: prefix_tree\nvocab_size: 2\nhorizon: 1\nreward: &r [0, *r]\n",
    "bomb.yaml": f"kind: prefix_tree\nvocab_size: 2\nhorizon: 1\n{BOMB}reward: *a9\n",
    "merges.yaml": f"kind: prefix_tree\n{MERGES}",
    "twice.yaml": FEW + "horizon: 2\n",
    "deep.yaml": "kind: " + "[" * 2000,
    "tab.yaml": "kind: prefix_tree\n\thorizon: 2\n",
    "empty.yaml": "",
    "list.yaml": "- kind\n",
    "long.yaml": f"kind: prefix_tree\nvocab_size: 2\nhorizon: {'x' * 200_000}\nreward: [0, 1]\n",
    "digits.yaml": f"kind: prefix_tree\nvocab_size: 2\nhorizon: {'9' * 5000}\nreward: [0, 1]\n",
    "date.yaml": FEW + "eos: 2001-99-99\n",
    "nan.yaml": "kind: prefix_tree\nvocab_size: 2\nhorizon: 1\nreward: {1: .nan}\n",
    "inf.yaml": "kind: prefix_tree\nvocab_size: 2\nhorizon: 1\nreward: {1: .inf}\n",
    "wide.yaml": "kind: prefix_tree\nvocab_size: 1000000000\nhorizon: 3\nreward: {1 1 1: 1}\n",
    "tall.yaml": "kind: prefix_tree\nvocab_size: 2\nhorizon: 60\nreward: {1: 1}\n",
    "minus.yaml": "kind: prefix_tree\nvocab_size: 2\nhorizon: -1\nreward: {1: 1}\n",
    "bool.yaml": "kind: prefix_tree\nvocab_size: 2\nhorizon: true\nreward: {1: 1}\n",
    "weights.yaml": "kind: mixture\nshare_rows: true\nprompts:\n"
    "  - {weight: -1, kind: prefix_tree, vocab_size: 2, horizon: 1, reward: [0, 1]}\n",
    "shape.yaml": FEW + "theta: [[0, 1, 2]]\n",
    "theta.yaml": "[[.nan, 0]]",
    "loops.yaml": "&t [[0, 1], *t]",
    "deep.json": "[" * 100_000,
    "no.npy": "not a table",
    "own.py": OWN,
    "nothing.py": "",
    "syntax.py": "def f(:\n",
    "leaves.py": "raise SystemExit(0)\n",
    "scalar.py": EXPERIMENT.format(version="RESULTS_VERSION = 1", body="return 3"),
    "raising.py": EXPERIMENT.format(version="RESULTS_VERSION = 1", body="return [{'x': 1 / 0}]"),
    "fine.py": EXPERIMENT.format(version="RESULTS_VERSION = 1", body="return [{'x': cfg.size}]"),
    "unversioned.py": EXPERIMENT.format(version="", body="return [{'x': 1}]"),
    "sweep_bomb.yaml": f"experiment: fine.py\n{BOMB}grid: {{size: *a9}}\n",
    "sweep_itself.yaml": "experiment: fine.py\ngrid: &g {size: [*g]}\n",
    "run.yaml": "seed: 1\nouter_steps: 5\n",
    "run_twice.yaml": "seed: 1\nouter_steps: 5\nseed: 2\n",
    "run_itself.yaml": "seed: &s [*s]\n",
    "run_bomb.yaml": BOMB + "seed: *a9\n",
    "a_file": "",
}


def make_odd(folder: Path) -> Path:
    """The files that the command lines name."""
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00kind")
    (folder / "folder.yaml").mkdir()
    (folder / "folder.py").mkdir()
    (folder / "results").mkdir()
    (folder / "results" / "taken.parquet").mkdir()
    np.save(folder / "objects.npy", np.array([{}, None], dtype=object))
    np.save(folder / "three.npy", np.zeros((1, 3)))
    torch.save({"theta": torch.zeros(1, 2)}, folder / "dict.pt")
    (folder / "damaged" / "grpo").mkdir(parents=True)
    (folder / "damaged" / "grpo" / "replicates-0-1.npz").write_bytes(b"PK cut off")
    return folder
