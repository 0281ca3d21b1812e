"""The table of an evaluation and its summary; responses come from a stand-in sampler."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch

from llm.data.arithmetic import ALPHABET, problems
from llm.data.character_tokenizer import character_tokenizer
from llm.data.problems import Problem
from llm.evaluation import evaluate
from llm.evaluation.evaluate import Evaluation, Response, rows, summary, table
from llm.model import Architecture, tiny
from llm.sampling.collect import Judge
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.stats.rng import stream


def some(count: int) -> list[Problem]:
    made = problems("held_out", count, (2, 3), seed=1)
    return [Problem(p.question, (("user", p.question),), p.answer, tuple(map(ord, p.question))) for p in made]


class Guesser:
    """Right with probability 1/2; a call that is one too many dies like a killed process."""

    def __init__(self, calls: int = 10**9) -> None:
        self.calls, self.seen = calls, []

    def __call__(
        self, problems: Sequence[Problem], k: int, generator: torch.Generator
    ) -> list[list[Response]]:
        if len(self.seen) == self.calls:
            raise KeyboardInterrupt
        self.seen.append([problem.name for problem in problems])
        lucky = torch.rand(len(problems), k, generator=generator) < 0.5
        return [
            [Response(f"Answer: {problem.answer + (0 if ok else 1)}", 5 + i, ok) for i, ok in enumerate(row)]
            for problem, row in zip(problems, lucky.tolist(), strict=True)
        ]


def settings(folder: Path, **changed: object) -> Evaluation:
    return Evaluation(**{"model": "m", "data": "d", "k": 4, "chunk": 3, "results": folder, **changed})  # type: ignore[arg-type]


def test_rows_count_what_is_right_answered_and_cut() -> None:
    def respond(problems: Sequence[Problem], k: int, generator: torch.Generator) -> list[list[Response]]:
        return [
            [
                Response(f"Answer: {problems[0].answer}", 3, True),
                Response("no", 9, False),
                Response("Answer: x", 6, True),
            ]
        ]

    (row,) = rows(some(1), 3, respond, Judge(None), stream(0, "x"))
    kept = {key: row[key] for key in ("drawn", "right", "answered", "cut", "mean_length")}
    assert kept == {"drawn": 3, "right": 1, "answered": 2, "cut": 1, "mean_length": 6.0}


def test_a_sampler_that_draws_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match=r"returned \[2, 2\] responses to 2 problems; it must return k = 3"):
        rows(some(2), 3, lambda problems, k, g: Guesser()(problems, 2, g), Judge(None), stream(0, "x"))


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_killed_evaluation_goes_on_where_it_was_with_the_same_numbers(tmp_path: Path, calls: int) -> None:
    whole = table(settings(tmp_path / "whole"), some(10), Guesser(), Judge(None), "x")
    config = settings(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        table(config, some(10), Guesser(calls), Judge(None), "x")
    rest = Guesser()
    pd.testing.assert_frame_equal(table(config, some(10), rest, Judge(None), "x"), whole)
    assert len(rest.seen) == 4 - calls
    first, second = (
        results_file.pair("x", tmp_path / folder)[0].read_bytes() for folder in ("whole", "parts")
    )
    assert first == second


def test_chunks_of_other_problems_are_not_mixed_in(tmp_path: Path) -> None:
    config = settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        table(config, some(10), Guesser(1), Judge(None), "x")
    with pytest.raises(ValueError, match="holds cells of another configuration"):
        table(config, some(9), Guesser(), Judge(None), "x")
    with pytest.raises(ValueError, match="holds cells of another configuration"):
        table(dataclasses.replace(config, k=5), some(10), Guesser(), Judge(None), "x")


def test_the_summary_by_hand() -> None:
    made = pd.DataFrame(
        {"drawn": 4, "right": [4, 2, 0], "answered": 4, "cut": [0, 0, 3], "mean_length": [10.0, 20.0, 30.0]}
    )
    lines = summary(made)
    assert [re.sub(r"\s+\[.*", "", line) for line in lines[:3]] == [
        "avg@4    50.0 %",
        "pass@2   61.1 %",
        "pass@4   66.7 %",
    ]
    assert lines[3] == (
        "3 problems, 4 responses each: 20.0 tokens, 25.0 % cut at the limit, 100.0 % give an answer"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "--model is missing"),
        ("--model m", "--data is missing"),
        ("--k 0", "k = 0: it must be at least 1"),
        ("--temperature 0", "k = 8 at temperature 0 repeats one response"),
        ("--temperature nan", "temperature = nan: it must be at least 0"),
        ("--modell m", "unknown field --modell; did you mean --model?"),
        ("--model /nowhere/at/all --data arithmetic", "nowhere"),
    ],
)
def test_bad_input_ends_in_one_line(arguments: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments.split()])
    with pytest.raises(SystemExit) as caught:
        evaluate.main()
    assert str(caught.value.code).startswith("error: ")
    assert sentence in str(caught.value.code)
    assert "\n" not in str(caught.value.code)


def test_the_command_evaluates_a_model_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = character_tokenizer(ALPHABET)
    model = tiny(
        Architecture(
            vocab_size=len(tokenizer),
            hidden=16,
            layers=1,
            heads=2,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        ),
        seed=0,
        tokenizer=tokenizer,
    )
    model.network.save_pretrained(tmp_path / "model")  # type: ignore[operator]
    tokenizer.save_pretrained(tmp_path / "model")
    arguments = (
        f"--model {tmp_path / 'model'} --data arithmetic --split held_out --template raw --problems 5 --k 2 "
        f"--max-response-tokens 6 --dtype float32 --chunk 2 --device cpu --name tiny --results {tmp_path}"
    )
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments.split()])
    evaluate.main()
    made = pd.read_parquet(tmp_path / "tiny.parquet")
    assert len(made) == 5 and (made["drawn"] == 2).all()
    assert ((made["mean_length"] >= 1) & (made["mean_length"] <= 6)).all()
    said = capsys.readouterr().out
    assert "avg@2" in said and "5 prompts of 5 rows" in said
