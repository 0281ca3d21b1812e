"""Prompts from files, the hub and generated problems; every problem text here is generated."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from llm.config.sections import DataConfig
from llm.data import dataset_schemas
from llm.data import problems as data
from llm.data.arithmetic import problems
from llm.data.character_tokenizer import character_tokenizer
from llm.data.dataset_schemas import Row
from llm.data.problems import INSTRUCTIONS, Counts, Position, draw, load, order

PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
MADE = problems("train", 12, (2, 3), seed=5)


def tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    made = character_tokenizer(PRINTABLE)
    made.chat_template = chat_template
    return made


def raw(source: object, **changed: object) -> DataConfig:
    return DataConfig(**{"source": str(source), "template": "raw", **changed})  # type: ignore[arg-type]


def dapo_rows() -> list[dict]:
    """In the schema of DAPO-Math-17k."""
    return [
        {
            "data_source": "made",
            "prompt": [{"content": f"What is {p.question}?", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(p.answer).zfill(6), "style": "rule"},
            "extra_info": {"index": f"made-{i}"},
        }
        for i, p in enumerate(MADE)
    ]


def aime_rows() -> list[dict]:
    return [
        {"problem": p.question, "answer": str(p.answer), "year": 2000, "ID": i} for i, p in enumerate(MADE)
    ]


def write(file: Path, table: list[dict]) -> Path:
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in table))
    else:
        pq.write_table(pa.Table.from_pylist(table), file)
    return file


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("schema", [dapo_rows, aime_rows])
def test_both_schemas_are_read_from_both_kinds_of_file(
    tmp_path: Path, suffix: str, schema: Callable[[], list[dict]]
) -> None:
    file = write(tmp_path / f"made{suffix}", schema())
    prompts = load(raw(file), tokenizer())
    assert [p.answer for p in prompts.problems] == [p.answer for p in MADE]
    assert prompts.counts == Counts(12, 0, 0, 0, 0, 12)
    wrapped = "What is {}?" if schema is dapo_rows else "{}"
    assert [p.messages for p in prompts.problems] == [(("user", wrapped.format(p.question)),) for p in MADE]
    decoded = tokenizer().decode(list(prompts.problems[3].tokens))
    assert decoded == wrapped.format(MADE[3].question)
    assert prompts.problems[3].name == ("made-3" if schema is dapo_rows else "3")


@pytest.mark.parametrize("renamed", [("Problem", "Answer"), ("question", "expected_answer")])
def test_other_names_of_the_columns_are_read(tmp_path: Path, renamed: tuple[str, str]) -> None:
    table = [{renamed[0]: "1+1", renamed[1]: 2.0}]
    for suffix in (".jsonl", ".parquet"):
        (problem,) = load(raw(write(tmp_path / f"x{suffix}", table)), tokenizer()).problems
        assert (problem.messages, problem.answer, problem.name) == ((("user", "1+1"),), 2, "0")


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    table = aime_rows()
    table += [table[0]] * 3 + [{**table[1], "answer": "1"}]  # 3 duplicates, and 1 with another answer
    table += [{"problem": "half", "answer": "1/2"}, {"problem": "x" * 30, "answer": "7"}]
    prompts = load(raw(write(tmp_path / "made.jsonl", table), max_prompt_tokens=29), tokenizer())
    assert prompts.counts == Counts(18, 4, 1, 1, 1, 12)
    assert prompts.counts.sentence() == (
        "12 prompts of 18 rows: 4 duplicates (1 with another answer), 1 without an integer answer, 1 too long"
    )
    assert prompts.problems[1].answer == MADE[1].answer


def test_a_duplicate_with_the_same_integer_in_another_spelling_does_not_conflict(tmp_path: Path) -> None:
    table = [{"problem": "1+1", "answer": "2"}, {"problem": "1+1", "answer": "002"}]
    assert load(raw(write(tmp_path / "x.jsonl", table)), tokenizer()).counts == Counts(2, 1, 0, 0, 0, 1)


@pytest.mark.parametrize(
    "table", [[], [{"problem": "half", "answer": "1/2"}], [{"problem": "y" * 99, "answer": 1}]]
)
def test_nothing_left_is_refused_with_the_counts(tmp_path: Path, table: list[dict]) -> None:
    file = write(tmp_path / "made.jsonl", table)
    with pytest.raises(
        ValueError, match=r"leaves nothing to train on: 0 prompts of \d rows.*max_prompt_tokens = 9"
    ):
        load(raw(file, max_prompt_tokens=9), tokenizer())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.jsonl", b"{", "line 1 of .* is not JSON"),
        ("x.jsonl", b"\xff\xfe", "line 1 of .* is not JSON"),
        ("x.jsonl", b"\n[1]\n", "line 2 of .* is list, not an object"),
        ("x.jsonl", b"[" * 200_000, "line 1 of .* is not JSON"),
        (
            "x.jsonl",
            b'{"text": "1", "label": 2}',
            "row 0 of .* has the columns text, label: it takes prompt and",
        ),
        ("x.jsonl", b'{"problem": 3, "answer": 2}', "row 0 of .* has the columns problem, answer"),
        (
            "x.jsonl",
            b'{"prompt": "a", "reward_model": {}}',
            "row 0 of .* is not in the schema of DAPO-Math-17k",
        ),
        (
            "x.jsonl",
            b'{"prompt": [], "reward_model": {"ground_truth": 1}}',
            "row 0 of .* has an empty prompt",
        ),
        ("x.parquet", b"PAR1 is not enough", "is not a parquet file that can be read"),
        ("x.parquet", b"", "is not a parquet file that can be read"),
        ("x.csv", b"problem,answer", "is neither a .parquet nor a .jsonl file"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(raw(tmp_path / name), tokenizer())
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(ValueError, match=r"nowhere/x\.jsonl does not exist"):
        load(raw("nowhere/x.jsonl"), tokenizer())


def test_data_sets_of_the_hub_are_read_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    calls = []

    def load_dataset(*arguments: object, **options: object) -> object:
        calls.append((arguments, options))
        return datasets.Dataset.from_list(dapo_rows())

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    prompts = load(raw("somebody/made:main", split="held"), tokenizer())
    assert [p.answer for p in prompts.problems] == [p.answer for p in MADE]
    assert calls == [(("somebody/made", "main"), {"split": "held"})]


def test_a_hub_that_cannot_be_reached_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(*_: object, **__: object) -> object:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        ValueError, match=r"cannot be loaded from the hub \(ConnectionError: no route to the hub"
    ):
        load(raw("somebody/made"), tokenizer())


def test_without_datasets_the_hub_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"take the library `datasets`: pip install 'ticgrpo-theory\[llm\]'"):
        load(raw("somebody/made"), tokenizer())


def test_generated_problems_need_no_file() -> None:
    prompts = load(raw("arithmetic", problems=12, levels=(2, 3), seed=5, max_prompt_tokens=6), tokenizer())
    assert [(p.messages[0][1], p.answer) for p in prompts.problems] == [(p.question, p.answer) for p in MADE]
    assert prompts.counts.kept == 12


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instructions_stand_around_the_problem_and_never_twice(name: str) -> None:
    before, after = INSTRUCTIONS[name]
    messages = data.instructed((("system", "s"), ("user", "1+1")), name)
    assert messages == (("system", "s"), ("user", before + "1+1" + after))
    if name != "none":
        with pytest.raises(ValueError, match=f"instruction = {name}, but the prompts carry it already"):
            data.instructed(messages, name)


def test_the_prompts_of_the_authors_are_those_of_dapo_with_a_box() -> None:
    dapo = data.instructed((("user", "1+1"),), "answer")
    assert data.instructed(dapo, "boxed") == data.instructed((("user", "1+1"),), "answer_and_boxed")


def test_the_chat_template_is_the_tokenizers_own() -> None:
    tokens = data.encode(tokenizer(CHAT), (("system", "s"), ("user", "1+1")), "chat")
    assert tokenizer().decode(list(tokens)) == "<system>s\n<user>1+1\n<a>"
    with pytest.raises(ValueError, match=r"has no chat template; set data\.template = raw"):
        data.encode(tokenizer(), (("user", "1+1"),), "chat")


def test_a_tokenizer_that_does_not_know_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="has no token for a character of the prompt '1 2'"):
        data.encode(character_tokenizer("12"), (("user", "1 2"),), "raw")


@given(st.integers(1, 30), st.integers(0, 3))
def test_an_epoch_is_a_permutation_and_the_next_one_another(size: int, seed: int) -> None:
    epochs = [order(size, seed, epoch) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
    if size >= 12:
        assert len({tuple(epoch) for epoch in epochs}) == 3


@given(st.integers(1, 20), st.lists(st.integers(1, 25), min_size=1, max_size=6))
def test_drawing_in_parts_is_drawing_at_once_wherever_it_is_resumed(size: int, counts: list[int]) -> None:
    whole, last = draw(size, sum(counts), 0, Position())
    position, parts = Position(), []
    for count in counts:
        drawn, position = draw(size, count, 0, Position(position.epoch, position.index))
        parts += drawn
    assert parts == whole
    assert position == last
    for epoch in range(len(whole) // size):
        assert sorted(whole[epoch * size : (epoch + 1) * size]) == list(range(size))


@pytest.mark.parametrize("position", [Position(0, 4), Position(-1, 0)])
def test_a_position_in_other_data_is_refused(position: Position) -> None:
    with pytest.raises(ValueError, match="the position belongs to other data"):
        draw(3, 1, 0, position)


def test_large_files_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_schemas, "CHUNK", 5)
    file = write(tmp_path / "made.parquet", dapo_rows())
    read = list(dataset_schemas.read(str(file), "train"))
    assert [row.name for row in read] == [f"made-{i}" for i in range(12)]
    assert all(isinstance(row, Row) for row in read)


def test_a_bad_row_is_named_by_its_number_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_schemas, "CHUNK", 5)
    table = dapo_rows()
    table[7]["prompt"] = []
    file = write(tmp_path / "made.parquet", table)
    with pytest.raises(ValueError, match=r"row 7 of .* has an empty prompt"):
        load(raw(file), tokenizer())
