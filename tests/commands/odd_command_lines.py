"""Command lines that somebody types by mistake, each with words of the one line that answers it."""

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


def of_world(file: str, said: str) -> tuple[str, str]:
    return f"gradient --world {file} --group-size 2", said


XOR = "--world xor --estimator grpo --group-size 2"
RUNS = f"simulate {XOR} --outer-steps 2 --replicates 2"

# What is typed, and words of the answer.
REFUSED = [
    of_world("itself.yaml", "itself.yaml contains itself"),
    of_world("bomb.yaml", "bomb.yaml holds more than 1,000,000 values once its aliases (*) are written out"),
    of_world("merges.yaml", "merges.yaml holds more than 10,000 entries in one mapping once its aliases"),
    of_world("twice.yaml", "twice.yaml, line 5: 'horizon' is given twice, first in line 3; keep one of them"),
    of_world("deep.yaml", "deep.yaml contains itself, or nests too deeply"),
    of_world("tab.yaml", "tab.yaml is not YAML: while scanning"),
    of_world("binary.yaml", "binary.yaml cannot be read"),
    of_world("folder.yaml", "folder.yaml cannot be read ([Errno 21] Is a directory"),
    of_world("empty.yaml", "empty.yaml has no kind; begin with a line like `kind: prefix_tree`"),
    of_world("list.yaml", "list.yaml has no kind"),
    of_world("long.yaml", "line 3: horizon = 'xxxx"),
    of_world("digits.yaml", "digits.yaml is not YAML: Exceeds the limit"),
    of_world("date.yaml", "date.yaml is not YAML: month must be in 1..12"),
    of_world("nan.yaml", "reward of '1' = nan"),
    of_world("inf.yaml", "must be a finite number"),
    of_world("wide.yaml", "line 2: vocab_size = 1,000,000,000: at most 1,000,000 tokens"),
    of_world("tall.yaml", "tall.yaml: "),
    of_world("minus.yaml", "horizon"),
    of_world("bool.yaml", "line 3: horizon = True (bool) is not int"),
    of_world("weights.yaml", "weight"),
    of_world("shape.yaml", "line 5: theta"),
    of_world("absent.yaml", "absent.yaml cannot be read"),
    of_world("own.py", "own.py names no world in it; write own.py:NAME, with one of value, raises"),
    of_world("nothing.py", "nothing.py names no world in it; it defines none"),
    of_world("absent.py", "absent.py cannot be read as Python (FileNotFoundError"),
    of_world("folder.py", "folder.py cannot be read as Python (IsADirectoryError"),
    of_world("own.py:", "own.py names no world in it"),
    of_world(":", "world = :"),
    of_world("own.py:bad_world", "own.py:bad_world raised"),
    of_world("own.py:leaving_world", "own.py:leaving_world raised SystemExit"),
    of_world("own.py:Kept", "own.py:Kept is type"),
    of_world("own.py:LIMIT", "own.py:LIMIT is int"),
    (
        "gradient --world xor --estimator own.py",
        "own.py names no estimator in it; write own.py:NAME, with one of",
    ),
    ("gradient --world xor --estimator nothing.py", "nothing.py names no estimator in it"),
    ("gradient --world xor --estimator syntax.py", "syntax.py cannot be read as Python (SyntaxError"),
    ("gradient --world xor --estimator syntax.py:f", "syntax.py:f cannot be imported (SyntaxError"),
    ("gradient --world xor --estimator own.py:valeu", "own.py:valeu"),
    ("gradient --world xor --estimator own.py:raises --group-size 2", "KeyError: 'nothing'"),
    ("gradient --world xor --estimator own.py:no_number --group-size 2", "nan"),
    ("gradient --world xor --estimator own.py:vector --group-size 2", "scalar"),
    ("gradient --world xor --estimator own.py:none --group-size 2", "None"),
    ("gradient --world xor --estimator own.py:leaves --group-size 2", "SystemExit"),
    ("gradient --world xor --estimator own.py:endless --group-size 2", "RecursionError"),
    ("gradient --world xor --estimator own.py:Kept", "Kept"),
    (f"gradient {XOR} --set delta=nan", "delta = nan"),
    (f"gradient {XOR} --set delta=[1,2]", "--set delta"),
    (f"gradient {XOR} --set delta=*a", "--set delta=*a is not YAML"),
    (f"gradient {XOR} --set =1", "write --set field=value"),
    ("gradient --world xor --estimator own.py:value --advantage own.py", "own.py names no advantage in it"),
    ("gradient --world xor --estimator own.py:value --advantage centerd", "the nearest is 'centred'"),
    (f"gradient {XOR} --theta absent.npy", "absent.npy cannot be read"),
    (f"gradient {XOR} --theta three.npy", "three.npy"),
    (f"gradient {XOR} --theta no.npy", "no.npy cannot be read"),
    (f"gradient {XOR} --theta objects.npy", "objects.npy cannot be read"),
    (f"gradient {XOR} --theta dict.pt", "it holds dict, not a tensor"),
    (f"gradient {XOR} --theta theta.yaml", "theta.yaml"),
    (f"gradient {XOR} --theta loops.yaml", "loops.yaml contains itself"),
    (f"gradient {XOR} --theta bomb.yaml", "bomb.yaml holds more than 1,000,000 values"),
    (f"gradient {XOR} --theta deep.json", "deep.json"),
    (f"gradient {XOR} --theta folder.yaml", "folder.yaml cannot be read"),
    (f"gradient {XOR} --theta a_file", "unknown kind ''"),
    (f"gradient {XOR} --limit 0", "limit = 0"),
    (f"gradient {XOR} --method sampled --tolerance -1", "tolerance = -1"),
    (f"gradient {XOR} --method sampled --tolerance nan", "tolerance = nan"),
    (f"gradient {XOR} --learning-rate inf", "learning_rate = inf"),
    ("gradient --world xor --estimator rloo --group-size 1", "undefined for a group of 1"),
    (f"bias {XOR} --learning-rate 0", "learning_rate = 0.0: a step size must be > 0"),
    (f"bias {XOR} --inner-steps -3", "inner_steps = -3"),
    (f"bias {XOR} --steps reused --method sampled", "--method sampled with --steps reused"),
    ("decompose --world xor --estimator rloo", "no decomposition is stated"),
    (f"bounds {XOR} --outer-steps {10**400}", "a number is too large"),
    (f"bounds {XOR} --learning-rate -1", "learning_rate = -1"),
    (f"{RUNS} --replicates 0", "replicates = 0"),
    (f"{RUNS} --outer-steps {10**13}", "outer_steps = 10,000,000,000,000, more than MAX_OUTER_STEPS"),
    (f"{RUNS} --prompts-per-step {10**13}", "more than MAX_TOKENS"),
    (f"{RUNS} --prompts-per-step 0", "prompts_per_step = 0"),
    (f"{RUNS} --group-size {10**13}", "more than MAX_TOKENS"),
    (
        f"{RUNS} --folder a_file",
        "folder = a_file/grpo cannot be written (Not a directory): name another folder with --folder",
    ),
    (
        f"{RUNS} --folder a_file/below",
        "cannot be written (Not a directory): name another folder with --folder",
    ),
    (f"{RUNS} --folder /proc/nowhere", "folder = /proc/nowhere/grpo cannot be written (No such file"),
    (f"{RUNS} --folder damaged", "is not the state of a simulation, cut off or edited"),
    (f"{RUNS} --device cuda:99", "device = 'cuda:99' is not there"),
    (f"{RUNS} --learning-rate nan", "learning_rate = nan"),
    (f"{RUNS} --seed -{10**90}", "seed"),
    ("sweep absent.py --grid etas=1", "absent.py does not exist"),
    ("sweep nothing.py --grid etas=1", "nothing.py has no function 'rows'"),
    ("sweep syntax.py --grid etas=1", "SyntaxError"),
    ("sweep leaves.py --grid etas=1", "leaves.py cannot be imported (SystemExit"),
    ("sweep folder.py --grid etas=1", "folder.py does not exist"),
    ("sweep unversioned.py --grid etas=1", "has no whole number RESULTS_VERSION"),
    ("sweep fine.py", "the grid is empty"),
    ("sweep fine.py --grid size=1,1", "holds 1 twice"),
    ("sweep fine.py --grid sise=1", "has no field 'sise'; the nearest is 'size'"),
    ("sweep fine.py --grid size=[1", "is not YAML"),
    ("sweep fine.py --grid size=x", "size = 'x' (str) is not int"),
    ("sweep fine.py --grid size=1 --jobs 0", "jobs = 0: it takes at least 1 worker"),
    ("sweep fine.py --grid size=1 --address here", "use ray or dask"),
    ("sweep fine.py --grid size=1 --name ../x", "cannot name a result"),
    ("sweep fine.py --grid size=1 --results a_file", "results = "),
    ("sweep fine.py --grid size=1 --results /proc/nowhere", "name another folder with --results"),
    ("sweep fine.py --grid size=1 --backend sequential --name taken", "taken.parquet"),
    ("sweep sweep_bomb.yaml", "sweep_bomb.yaml holds more than 1,000,000 values"),
    ("sweep sweep_itself.yaml", "sweep_itself.yaml contains itself"),
    ("sweep binary.yaml", "binary.yaml cannot be read"),
    ("sweep folder.yaml", "folder.yaml cannot be read"),
    ("sweep empty.yaml", "empty.yaml names no experiment"),
    ("sweep few.yaml", "few.yaml names no experiment"),
]
"""Exit code 1 and one line."""

FAILED = [
    ("sweep scalar.py --grid size=1 --backend sequential --name scalar", "rows(cfg) gave 3 (int)"),
    (
        "sweep raising.py --grid size=1 --backend sequential --name raising",
        "ZeroDivisionError: division by zero",
    ),
]
"""Exit code 1 and a line for each cell."""

MISUSED = [
    "",
    "gradint --world xor",
    "gradient --wrld xor",
    f"gradient {XOR} --group-size 2.5",
    f"gradient {XOR} --group-size nan",
    f"gradient {XOR} --group-size",
    f"gradient {XOR} --learning-rate fast",
    f"gradient {XOR} --method guess",
    f"gradient {XOR} --seed 1.5",
    "bias --steps other",
    f"{RUNS} --replicates many",
    "sweep",
    "sweep fine.py --backend slurm",
    "list worlds",
]
"""Exit code 2: the usage."""

CONFIGS = [
    ("run_twice.yaml", "run_twice.yaml, line 3: 'seed' is given twice, first in line 1; keep one of them"),
    ("run_itself.yaml", "run_itself.yaml contains itself"),
    ("run_bomb.yaml", "run_bomb.yaml holds more than 1,000,000 values"),
    ("binary.yaml", "binary.yaml cannot be read"),
    ("folder.yaml", "folder.yaml cannot be read"),
    ("list.yaml", "list.yaml holds list, not a mapping"),
    ("empty.yaml", "empty.yaml holds NoneType, not a mapping"),
    ("deep.yaml", "deep.yaml contains itself, or nests too deeply"),
]
"""Files of `python -m llm.config`."""
