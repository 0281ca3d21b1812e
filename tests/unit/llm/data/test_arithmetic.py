"""Generated problems."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.arithmetic import FACTORS, MAX_LEVEL, Multiplication, numbered, problems, shares, size
from llm.data.rewards import correct

MULTIPLICATIONS = st.builds(Multiplication, st.integers(1, 10**MAX_LEVEL - 1), st.sampled_from(FACTORS))


def test_the_worked_response_by_hand() -> None:
    problem = Multiplication(347, 8)
    assert problem.question == "347*8="
    assert problem.worked() == "7*8=56;4*8+5=37;3*8+3=27\nAnswer: 2776"
    assert Multiplication(201, 4).worked() == "1*4=4;0*4=0;2*4=8\nAnswer: 804"


@given(MULTIPLICATIONS)
def test_the_worked_response_is_right_and_judged_right(problem: Multiplication) -> None:
    response = problem.worked()
    assert problem.answer == problem.a * problem.b
    assert correct(response, problem.answer)
    assert not correct(response, problem.answer + 1)
    assert not correct(response.partition("\n")[0], problem.answer)


@given(MULTIPLICATIONS)
def test_every_step_is_true_and_the_steps_add_up_to_the_answer(problem: Multiplication) -> None:
    total, carry = 0, 0
    for place, step in enumerate(problem.worked().partition("\n")[0].split(";")):
        digit, factor, added, product = re.fullmatch(r"(\d)\*(\d)(?:\+(\d))?=(\d+)", step).groups()  # type: ignore[union-attr]
        assert int(added or 0) == carry
        assert int(digit) * int(factor) + carry == int(product)
        carry = int(product) // 10
        total += int(product) % 10 * 10**place
    assert total + carry * 10**problem.level == problem.answer


def test_the_longest_response_of_level_4_fits_the_limit_of_the_demo() -> None:
    lengths = [len(Multiplication(a, b).worked()) for a in (9999, 8999, 9998, 9989) for b in FACTORS]
    assert max(lengths) == 47  # one token each, and EOS: below max_response_tokens of demo_cpu.yaml


def test_responses_of_a_level_vary_in_length() -> None:
    lengths = {len(problem.worked()) for problem in problems("train", 300, (3,), seed=0)}
    assert max(lengths) - min(lengths) >= 5


@pytest.mark.parametrize("level", [1, 2, 3])
def test_numbers_run_through_every_problem_of_a_level_once(level: int) -> None:
    every = {numbered(level, number) for number in range(size(level))}
    factors = range(10 ** (level - 1), 10**level)
    assert every == {Multiplication(a, b) for a in factors for b in FACTORS}


@pytest.mark.parametrize("seed", [0, 1])
def test_training_and_held_out_problems_are_distinct_disjoint_and_stratified(seed: int) -> None:
    train = problems("train", 4096, (2, 3, 4), seed)
    held_out = problems("held_out", 1024, (2, 3, 4), seed)
    assert len(set(train)) == 4096 and len(set(held_out)) == 1024
    assert not set(train) & set(held_out)
    assert [sum(p.level == n for p in train) for n in (2, 3, 4)] == [360, 1868, 1868]
    assert sorted(sum(p.level == n for p in held_out) for n in (2, 3, 4)) == [341, 341, 342]


def test_together_the_splits_are_all_problems() -> None:
    assert len({*problems("train", 360, (2,), 3), *problems("held_out", 360, (2,), 3)}) == size(2)


def test_the_problems_depend_on_the_seed_alone() -> None:
    assert problems("train", 50, (2, 3), 0) == problems("train", 50, (2, 3), 0)
    assert problems("train", 50, (2, 3), 0) != problems("train", 50, (2, 3), 1)
    small, large = problems("train", 50, (3,), 0), problems("train", 90, (3,), 0)
    assert large[:50] == small


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.data())
def test_shares_add_up_and_differ_only_where_a_level_is_exhausted(
    available: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, sum(available)))
    given_shares = shares(count, available)
    assert sum(given_shares) == count
    largest = max(given_shares)
    assert all(
        share == most or share >= largest - 1 for share, most in zip(given_shares, available, strict=True)
    )


@pytest.mark.parametrize(
    ("split", "count", "levels", "sentence"),
    [
        ("test", 5, (2,), "split = 'test': generated problems have train and held_out"),
        ("train", 361, (2,), "361 problems requested, but these levels have 360 in this split"),
        ("train", 0, (2,), "0 problems requested"),
        ("train", 5, (2, 2), r"levels = \(2, 2\): give distinct numbers of digits from 1 to 5"),
        ("train", 5, (6,), r"levels = \(6,\): give distinct"),
        ("train", 5, (), r"levels = \(\): give distinct"),
    ],
)
def test_problems_that_cannot_be_made_are_refused(
    split: str, count: int, levels: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        problems(split, count, levels, 0)
