"""Rows of data sets as problems, in the schemas that mathematics data sets come in.

DAPO, verl    prompt [{content, role}], reward_model {ground_truth}, extra_info {index}
AIME          problem (or question), answer (or expected_answer)
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 8192
"""Rows that are held as Python objects at once: DAPO-Math-17k has 1.8 million."""

TEXTS = ("problem", "question")
ANSWERS = ("answer", "expected_answer")
NAMES = ("id", "index", "unique_id")
"""Columns of the AIME schema, whatever their case."""
VERL = ("prompt", "reward_model", "extra_info")


@dataclass(frozen=True)
class Row:
    """A problem as its data set has it."""

    messages: tuple[tuple[str, str], ...]
    """(role, content), the problem in the last one."""
    answer: Any
    """The ground truth as it is written."""
    name: str
    """What the data set calls it; empty where it does not."""


def read(source: str, split: str) -> Iterator[Row]:
    """The rows of a .parquet or .jsonl file, else of a split of a hub data set (`name` or `name:config`)."""
    path = Path(source)
    if path.suffix in (".parquet", ".jsonl"):
        if not path.is_file():
            raise ValueError(f"{source} does not exist; give a .parquet or .jsonl file, or a hub name")
        batches = parquet(path) if path.suffix == ".parquet" else jsonl(path)
    elif path.exists():
        raise ValueError(f"{source} is neither a .parquet nor a .jsonl file; convert it, or give a hub name")
    else:
        batches = hub(source, split)
    for first, rows in batches:
        for number, row in enumerate(rows, start=first):
            yield problem(row, f"row {number} of {source}")


def parquet(path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(number of the first row, rows) chunk by chunk, with the columns that are read."""
    try:
        with pq.ParquetFile(path) as file:
            columns = wanted(file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=CHUNK, columns=columns):
                yield number, batch.to_pylist()
                number += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise ValueError(f"{path} is not a parquet file that can be read: {one_line(error)}") from error


def jsonl(path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(number of the row, [row]) line by line; empty lines are skipped."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"line {number + 1} of {path} is not JSON: {one_line(error)}") from error
                if not isinstance(row, dict):
                    raise ValueError(f"line {number + 1} of {path} is {type(row).__name__}, not an object")
                yield number, [row]


def hub(name: str, split: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(number of the first row, rows) of a data set that the library `datasets` loads."""
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"{name} is no file, and data sets of the hub take the library `datasets`: "
            f"pip install 'ticgrpo-theory[llm]', or give a .parquet or .jsonl file"
        ) from error
    repository, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(repository, configuration or None, split=split)
    except Exception as error:  # the library raises its own, those of huggingface_hub and of the network
        raise ValueError(
            f"split {split!r} of {name} cannot be loaded from the hub ({one_line(error)}); a file that you "
            f"have can be given by its path"
        ) from error
    kept: Any = loaded.select_columns(wanted(loaded.column_names))
    number = 0
    for table in kept.with_format("arrow").iter(CHUNK):
        yield number, table.to_pylist()
        number += table.num_rows


def wanted(columns: list[str]) -> list[str]:
    """The columns that `problem` reads."""
    if set(VERL[:2]) <= set(columns):
        return [column for column in columns if column in VERL]
    return [column for column in columns if column.lower() in (*TEXTS, *ANSWERS, *NAMES)]


def problem(row: Mapping[str, Any], where: str) -> Row:
    """The problem in a row of either schema; ValueError where it is of neither."""
    if "prompt" in row and "reward_model" in row:
        return of_verl(row, where)
    lower = {str(column).lower(): value for column, value in row.items()}
    text = next((lower[column] for column in TEXTS if column in lower), None)
    answer = next((lower[column] for column in ANSWERS if column in lower), None)
    if not isinstance(text, str) or answer is None:
        raise ValueError(
            f"{where} has the columns {', '.join(map(str, row)) or 'none'}: it takes prompt and reward_model "
            f"(as DAPO-Math-17k), or problem and answer (as AIME)"
        )
    name = next((lower[column] for column in NAMES if lower.get(column) is not None), "")
    return Row((("user", text),), answer, str(name))


def of_verl(row: Mapping[str, Any], where: str) -> Row:
    """prompt [{content, role}], reward_model {ground_truth}, extra_info {index}."""
    try:
        messages = tuple((str(message["role"]), str(message["content"])) for message in row["prompt"])
        answer = row["reward_model"]["ground_truth"]
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{where} is not in the schema of DAPO-Math-17k ({one_line(error)}): prompt is a list of "
            f"{{content, role}}, reward_model has ground_truth"
        ) from error
    if not messages:
        raise ValueError(f"{where} has an empty prompt; leave the row out")
    extra = row.get("extra_info")
    name = extra.get("index") if isinstance(extra, Mapping) else None
    return Row(messages, answer, "" if name is None else str(name))


def one_line(error: BaseException) -> str:
    """Kind and text of an exception, in at most 200 characters of one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
