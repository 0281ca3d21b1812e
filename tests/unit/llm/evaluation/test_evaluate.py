"""avg@k, pass@k, their intervals, and the table of an evaluation; responses come from a stand-in sampler."""

import dataclasses
import itertools
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm.data import rewards
from llm.data.arithmetic import ALPHABET, problems
from llm.data.character_tokenizer import character_tokenizer
from llm.data.problems import Problem
from llm.evaluation import evaluate
from llm.evaluation.evaluate import Evaluation, Response, rows, summary, table
from llm.evaluation.pass_at_k import average, clustered, pass_at_k, scored, solved
from llm.model import tiny
from ticgrpo_theory.experiment import results_file
from ticgrpo_theory.stats.rng import stream

EXACT = {"rel": 1e-12, "abs": 1e-12}


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_draw(drawn: int, data: st.DataObject) -> None:
    right, k = data.draw(st.integers(0, drawn)), data.draw(st.integers(1, drawn))
    subsets = list(itertools.combinations([True] * right + [False] * (drawn - right), k))
    assert pass_at_k(right, drawn, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), **EXACT)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_pass_at_k_is_unbiased_and_the_plug_in_is_not(p: float) -> None:
    """E over the 8 draws, by the binomial law; 1 - (1 - c/n)^k is off by up to 0.1."""
    law = [float(stats.binom.pmf(c, 8, p)) for c in range(9)]
    truth = 1 - (1 - p) ** 4
    assert sum(w * pass_at_k(c, 8, 4) for c, w in enumerate(law)) == pytest.approx(truth, **EXACT)
    plug_in = sum(w * (1 - (1 - c / 8) ** 4) for c, w in enumerate(law))
    assert abs(plug_in - truth) > 0.03 or p in (0.0, 1.0)


def test_pass_at_k_by_hand_and_for_large_numbers() -> None:
    assert pass_at_k(1, 4, 2) == 0.5
    assert pass_at_k(3, 4, 2) == 1.0
    assert pass_at_k(1, 10_000, 5_000) == pytest.approx(0.5, **EXACT)


@pytest.mark.parametrize(("right", "drawn", "k"), [(-1, 4, 1), (5, 4, 1), (2, 4, 0), (2, 4, 5), (0, 0, 1)])
def test_impossible_counts_are_refused(right: int, drawn: int, k: int) -> None:
    with pytest.raises(ValueError, match=rf"right = {right}, drawn = {drawn}, k = {k}: needs 0 <= right"):
        pass_at_k(right, drawn, k)


def wilson(share: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    return scored(share, trials, float(stats.norm.ppf((1 + confidence) / 2)))


@given(st.integers(1, 200), st.data())
def test_wilson_ends_where_the_score_test_rejects(trials: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, trials)) / trials
    low, high = wilson(share, trials)
    z = float(stats.norm.ppf(0.975))
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        if end not in (0.0, 1.0):
            assert abs(share - end) == pytest.approx(z * math.sqrt(end * (1 - end) / trials), rel=1e-9)


def test_wilson_by_hand() -> None:
    """0 of n: 0 to z^2 / (n + z^2)."""
    z2 = float(stats.norm.ppf(0.975)) ** 2
    assert wilson(0.0, 10) == (0.0, pytest.approx(z2 / (10 + z2), **EXACT))
    assert wilson(1.0, 10) == (pytest.approx(10 / (10 + z2), **EXACT), 1.0)


def test_wilson_covers_what_it_says_on_average_and_the_normal_interval_does_not() -> None:
    """Coverage at n = 20, exact sums over the binomial law, averaged over p."""

    def covered(interval, p: float) -> float:
        return sum(
            float(stats.binom.pmf(c, 20, p))
            for c in range(21)
            if interval(c / 20)[0] <= p <= interval(c / 20)[1]
        )

    def normal(share: float) -> tuple[float, float]:
        half = 1.96 * math.sqrt(share * (1 - share) / 20)
        return share - half, share + half

    grid = [i / 40 for i in range(1, 40)]
    ours = [covered(lambda share: wilson(share, 20), p) for p in grid]
    assert sum(ours) / len(ours) > 0.94
    assert min(ours) > 0.83
    assert min(covered(normal, p) for p in grid) < 0.5


def test_intervals_over_problems_cover_and_those_over_draws_do_not() -> None:
    """300 evaluations of 30 problems, 16 draws each; success rates of problems follow a Beta(0.4, 1.2)."""
    generator = stream(0, "coverage")
    rates = torch.distributions.Beta(0.4, 1.2)
    held = naive = 0
    for _ in range(300):
        uniform = torch.rand(30, 16, generator=generator, dtype=torch.float64)
        quantile = torch.rand(30, generator=generator, dtype=torch.float64)
        p = torch.tensor(stats.beta.ppf(quantile.numpy(), 0.4, 1.2))
        right = (uniform < p[:, None]).sum(dim=1).tolist()
        value, low, high = average(right, 16)
        held += low <= float(rates.mean) <= high
        low, high = wilson(value, 30 * 16)
        naive += low <= float(rates.mean) <= high
    assert held >= 275  # 95 % of 300 is 285, three standard deviations are 11
    assert naive < 200


@given(st.lists(st.integers(0, 8), min_size=2, max_size=20))
def test_intervals_hold_their_value_within_zero_and_one(right: list[int]) -> None:
    for k in (1, 3, 8):
        value, low, high = solved(right, 8, k)
        assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    assert average(right, 8) == solved(right, 8, 1)


def test_one_draw_for_each_problem_is_wilson_with_students_quantile() -> None:
    t = float(stats.t.cdf(stats.t.ppf(0.975, 39), 39))
    assert t == pytest.approx(0.975)
    confidence = 2 * float(stats.norm.cdf(stats.t.ppf(0.975, 39))) - 1
    assert clustered([1.0] * 10 + [0.0] * 30, 1) == pytest.approx(wilson(0.25, 40, confidence), **EXACT)


def test_equal_shares_count_every_draw_and_one_problem_nothing() -> None:
    confidence = 2 * float(stats.norm.cdf(stats.t.ppf(0.975, 3))) - 1
    assert clustered([0.5] * 4, 8) == pytest.approx(wilson(0.5, 32, confidence), **EXACT)
    assert clustered([0.0] * 4, 8) == pytest.approx(wilson(0.0, 4, confidence), **EXACT)
    assert clustered([0.5], 8) == (0.0, 1.0)


@pytest.mark.parametrize(("shares", "independent"), [([], 1), ([0.5, 1.5], 1), ([0.5], 0)])
def test_shares_that_are_none_are_refused(shares: list[float], independent: int) -> None:
    with pytest.raises(ValueError, match=r"needs at least one share, all in \[0, 1\]"):
        clustered(shares, independent)
    with pytest.raises(ValueError, match=r"needs a share in \[0, 1\] of trials > 0"):
        wilson(1.5, 3)


def some(count: int) -> list[Problem]:
    made = problems("held_out", count, (2, 3), seed=1)
    return [Problem(p.question, (("user", p.question),), p.answer, tuple(map(ord, p.question))) for p in made]


class Guesser:
    """Right with probability 1/2; a call that is one too many dies like a killed process."""

    def __init__(self, calls: int = 10**9) -> None:
        self.calls, self.asked = calls, []

    def __call__(self, asked: Sequence[Problem], k: int, generator: torch.Generator) -> list[list[Response]]:
        if len(self.asked) == self.calls:
            raise KeyboardInterrupt
        self.asked.append([problem.name for problem in asked])
        lucky = torch.rand(len(asked), k, generator=generator) < 0.5
        return [
            [Response(f"Answer: {problem.answer + (0 if ok else 1)}", 5 + i, ok) for i, ok in enumerate(row)]
            for problem, row in zip(asked, lucky.tolist(), strict=True)
        ]


def settings(folder: Path, **changed: object) -> Evaluation:
    return Evaluation(**{"model": "m", "data": "d", "k": 4, "chunk": 3, "results": folder, **changed})  # type: ignore[arg-type]


def test_rows_count_what_is_right_answered_and_cut() -> None:
    def respond(asked: Sequence[Problem], k: int, generator: torch.Generator) -> list[list[Response]]:
        return [
            [
                Response(f"Answer: {asked[0].answer}", 3, True),
                Response("no", 9, False),
                Response("Answer: x", 6, True),
            ]
        ]

    (row,) = rows(some(1), 3, respond, rewards.correct, stream(0, "x"))
    kept = {key: row[key] for key in ("drawn", "right", "answered", "cut", "mean_length")}
    assert kept == {"drawn": 3, "right": 1, "answered": 2, "cut": 1, "mean_length": 6.0}


def test_a_sampler_that_draws_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match=r"returned \[2, 2\] responses to 2 problems; it must return k = 3"):
        rows(some(2), 3, lambda asked, k, g: Guesser()(asked, 2, g), rewards.correct, stream(0, "x"))


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_killed_evaluation_goes_on_where_it_was_with_the_same_numbers(tmp_path: Path, calls: int) -> None:
    whole = table(settings(tmp_path / "whole"), some(10), Guesser(), rewards.correct, "x")
    config = settings(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        table(config, some(10), Guesser(calls), rewards.correct, "x")
    rest = Guesser()
    pd.testing.assert_frame_equal(table(config, some(10), rest, rewards.correct, "x"), whole)
    assert len(rest.asked) == 4 - calls
    first, second = (
        results_file.pair("x", tmp_path / folder)[0].read_bytes() for folder in ("whole", "parts")
    )
    assert first == second


def test_chunks_of_other_problems_are_not_mixed_in(tmp_path: Path) -> None:
    config = settings(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        table(config, some(10), Guesser(1), rewards.correct, "x")
    with pytest.raises(ValueError, match="holds cells of another configuration"):
        table(config, some(9), Guesser(), rewards.correct, "x")
    with pytest.raises(ValueError, match="holds cells of another configuration"):
        table(dataclasses.replace(config, k=5), some(10), Guesser(), rewards.correct, "x")


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
        vocab_size=len(tokenizer),
        hidden=16,
        layers=1,
        heads=2,
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
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
