"""The published protocols, as their files state them, go through all their stages on a small model.

Overridden are where model and data lie, and sizes that a CPU can hold. Problems are made here, in the schema
of DAPO-Math-17k; the network is a random Qwen3 whose tokenizer has tokens for whole answers, so that some
responses are right.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llm.config.config import from_command_line
from llm.config.typed_values import plain
from llm.data import problems
from llm.data.character_tokenizer import character_tokenizer
from llm.model import Architecture, tiny
from llm.pretrained import load
from llm.training import checkpoints, metrics_file, train
from tests.thinned import more, only

CONFIGS = Path(train.__file__).parents[1] / "configs"
CHARACTERS = "".join(map(chr, range(32, 127))) + "\n"
ANSWERS = (0, 1, 2)


def save_qwen(folder: Path) -> Path:
    """A random Qwen3 with a chat template, and tokens that are whole answers."""
    tokenizer = character_tokenizer(CHARACTERS)
    tokenizer.add_tokens([f"\nAnswer: {answer}\n" for answer in ANSWERS])
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}\n{{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    made = tiny(
        Architecture(
            vocab_size=len(tokenizer),
            hidden=32,
            layers=2,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        ),
        std=0.02,
    )
    made.network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_dapo(file: Path) -> Path:
    """40 problems, two of them twice and one too long, in the schema of DAPO-Math-17k."""
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [
                {
                    "content": f"{problems.ANSWER_BEFORE}What is {n} modulo 3?{'!' * 400 * (n == 39)}"
                    f"{problems.ANSWER_AFTER}",
                    "role": "user",
                }
            ],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(n % 3), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"made-{n}"},
        }
        for n in [*range(40), 3, 5]
    ]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def save_aime(file: Path) -> Path:
    rows = [{"id": n, "problem": f"Find {n} modulo 3.", "answer": f"{n % 3:03d}"} for n in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


SIZES = {
    "paper_figure1_logs": (8, 1, []),
    "paper_figure1_text": (8, 4, []),
    "paper_figure2_logs": (8, 4, ["--updates.mini-batch", "2"]),
    "paper_figure2_text": (8, 4, []),
    "dapo": (16, 16, ["--updates.mini-batch", "1", "--reward.overlong-buffer", "6"]),
}
"""Prompts of a rollout, the K of the file, and the sizes that go with them."""


def arguments(name: str, folder: Path, rollouts: int) -> list[str]:
    aime = save_aime(folder / "aime.jsonl")
    held_out = ["--evaluation.source", str(aime), "--evaluation.k", "2", "--evaluation.temperature", "1"]
    return [
        *("--config", str(CONFIGS / f"{name}.yaml")),
        *("--model.path", str(save_qwen(folder / "model"))),
        *("--data.source", str(save_dapo(folder / "problems.parquet"))),
        *("--data.max-prompt-tokens", "500"),
        *("--sampling.prompts", str(SIZES[name][0])),
        *("--sampling.group-size", "4"),
        *("--sampling.max-response-tokens", "12"),
        *SIZES[name][2],
        *(held_out if name == "dapo" else []),
        *("--outer-steps", str(rollouts)),
        *("--output", str(folder / "run")),
    ]


@pytest.mark.parametrize("name", only(["dapo"], sorted(SIZES)))
def test_a_published_protocol_goes_through_all_its_stages(name, tmp_path, monkeypatch, capsys):
    given = arguments(name, tmp_path, rollouts=2)
    monkeypatch.setattr(sys, "argv", ["llm.train", *given])
    train.main()
    said, output = capsys.readouterr().out, tmp_path / "run"
    assert (
        "39 prompts of 42 rows: 2 duplicates (0 with another answer), 0 without an integer answer, 1 too"
        in said
    )

    # What the file says is what the run says it used, but for sizes and places.
    used, written = from_command_line(["--config", str(output / "config.yaml")]), from_command_line(given)
    assert plain(used) == plain(written)
    stated = checkpoints.flat(plain(from_command_line(given[:2])))
    changed = {key for key, value in checkpoints.flat(plain(used)).items() if stated[key] != value}
    assert {key.split(".")[0] for key in changed} <= {
        *("model", "data", "sampling", "updates", "reward", "evaluation", "outer_steps", "output")
    }
    assert changed & {"model.dtype", "updates.inner_steps", "updates.batches", "reward.values"} == set()

    lines = metrics_file.read(output / "metrics.jsonl")
    K = SIZES[name][1]
    assert [line["inner_step"] for line in lines] == [*range(K), *range(K)]
    assert sum(line["right"] for line in lines) > 0
    assert max(line["sampler_gap_mean"] for line in lines) > 0 and all(line["entropy"] > 1 for line in lines)
    assert max(line.get("first_step_ratio_error_max", 0.0) for line in lines) < 1e-5
    newest = checkpoints.newest(output / "checkpoints", print)
    assert newest is not None and newest.name == "000002"
    moved, start = load(str(newest)), load(given[3])
    pairs = zip(moved.network.parameters(), start.network.parameters(), strict=True)
    farthest = max((one - two).abs().max().item() for one, two in pairs)
    # AdamW at lr 1e-6: steps that bfloat16 weights would have lost in their rounding.
    assert 0 < farthest < 2.1 * len(lines) * 1e-6
    assert next(moved.network.parameters()).dtype == torch.float32
    if name == "dapo":
        evaluations = metrics_file.read(output / "evaluations.jsonl")
        assert [line["problems"] for line in evaluations] == [6, 6]
        assert {line["rounds"] for line in lines} - {1}, "dynamic sampling never drew a second round"


def test_the_command_that_the_documentation_gives_runs(tmp_path, monkeypatch):
    written = train.__doc__.replace("\\\n", " ")
    (command,) = [line for line in written.splitlines() if "--model.path MODEL" in line]
    places = {
        "MODEL": str(save_qwen(tmp_path / "model")),
        "FILE": str(save_dapo(tmp_path / "problems.parquet")),
        "runs/stages": str(tmp_path / "run"),
        "llm/configs/paper_figure2_logs.yaml": str(CONFIGS / "paper_figure2_logs.yaml"),
    }
    given = [places.get(part, part) for part in command.split()]
    monkeypatch.setattr(sys, "argv", given[2:])
    assert given[:3] == ["python", "-m", "llm.train"]
    train.main()
    assert len(metrics_file.read(tmp_path / "run" / "metrics.jsonl")) == 8


@more
def test_a_protocol_goes_on_where_it_was(tmp_path, monkeypatch):
    given = arguments("paper_figure2_logs", tmp_path, rollouts=1)
    for rollouts in (1, 2):
        given[given.index("--outer-steps") + 1] = str(rollouts)
        monkeypatch.setattr(sys, "argv", ["llm.train", *given])
        train.main()
    lines = metrics_file.read(tmp_path / "run" / "metrics.jsonl")
    assert [line["rollout"] for line in lines] == [0] * 4 + [1] * 4
