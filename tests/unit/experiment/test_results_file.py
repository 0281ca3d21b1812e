"""results_file.py: the bytes depend on the rows alone, and what cannot be trusted is refused by name."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.thinned import more, only
from ticgrpo_theory.experiment import results_file

ROWS = [
    {"world": "tree", "k": 10, "eta": 0.1, "bias": 0.1 + 0.2, "clips": False},
    {"world": "tree", "k": 9, "eta": 0.1, "bias": math.inf, "clips": True},
    {"world": "chain", "k": 9, "eta": 0.1, "bias": 5e-324, "clips": False},
]
ABOUT = {"config": {"etas": (0.1,), "G": 4}, "results_version": 3, "seconds": 1.5}


@dataclass(frozen=True)
class Config:
    etas: tuple[float, ...] = (0.1,)
    G: float = math.inf
    results: Path = field(default=Path("results"), metadata=results_file.UNRECORDED)


ROOT = Path(__file__).parents[3]

eighths = st.integers(-2, 2).map(lambda n: n / 8)
table = st.lists(
    st.builds(
        lambda name, x, n, flag: {"name": name, "x": x, "n": n, "flag": flag},
        st.sampled_from(["a", "b", ""]),
        st.one_of(eighths, st.just(-0.0), st.just(math.inf), st.just(math.nan)),
        st.one_of(st.integers(-1, 1), st.none()),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def bytes_of(rows: list[dict], folder: Path, **changed) -> bytes:
    options = {
        **ABOUT,
        "folder": folder,
        "may_be_missing": [c for c in ("x", "n") if c in rows[0]],
        **changed,
    }
    return results_file.write("t", rows, **options).read_bytes()


def test_rows_come_back_sorted_and_exactly_as_they_were(tmp_path):
    results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    # By world, then k as a number (9 before 10), not as text.
    assert results_file.read("t", folder=tmp_path).to_dict("records") == [ROWS[2], ROWS[1], ROWS[0]]
    assert pd.read_parquet(tmp_path / "t.parquet").equals(results_file.read("t", folder=tmp_path))


@given(table, st.randoms(use_true_random=False))
def test_the_bytes_do_not_depend_on_the_order_of_the_rows(tmp_path_factory, rows, shuffler):
    folder = tmp_path_factory.mktemp("order")
    before = bytes_of(rows, folder)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert bytes_of(shuffled, folder, seconds=9.0, config={}, results_version=4) == before


@given(table, st.data())
def test_the_bytes_change_with_any_value(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("change")
    i = data.draw(st.integers(0, len(rows) - 1))
    other = rows[i] | {"x": data.draw(eighths)}
    assume(other["x"] != rows[i]["x"])
    assert bytes_of([*rows[:i], other, *rows[i + 1 :]], folder) != bytes_of(rows, folder)


@pytest.mark.parametrize("seed", only(["1"], ["1", "2"]))
def test_another_process_with_another_hash_seed_writes_the_same_bytes(tmp_path, seed):
    code = f"from tests.unit.experiment.test_results_file import *; bytes_of(ROWS, Path({str(tmp_path)!r}))"
    # What is tested ends with the file: threads of imported libraries may abort an interpreter that ends.
    code += "; os._exit(0)"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
    assert (tmp_path / "t.parquet").read_bytes() == bytes_of(ROWS, tmp_path / "here")


def test_numpy_scalars_and_minus_zero_are_stored_as_plain_numbers(tmp_path):
    plain = [{"a": 1, "b": 0.5, "c": True, "d": "x", "e": 0.0}]
    numpy = [{"a": np.int32(1), "b": np.float32(0.5), "c": np.bool_(True), "d": np.str_("x"), "e": -0.0}]
    assert bytes_of(numpy, tmp_path) == bytes_of(plain, tmp_path)


def test_whole_numbers_in_a_column_of_floats_are_floats(tmp_path):
    assert bytes_of([{"x": 1}, {"x": 0.5}], tmp_path) == bytes_of([{"x": 1.0}, {"x": 0.5}], tmp_path)
    assert bytes_of([{"x": 1}], tmp_path) != bytes_of([{"x": 1.0}], tmp_path)


def test_the_file_of_rows_holds_no_metadata(tmp_path):
    results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    assert pq.read_schema(tmp_path / "t.parquet").metadata is None


def test_the_sidecar_says_where_the_rows_come_from(tmp_path):
    results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    about = json.loads((tmp_path / "t.json").read_text())
    assert about["config"] == {"etas": [0.1], "G": 4}
    assert (about["results_version"], about["seconds"], about["rows"]) == (3, 1.5, 3)
    assert about["versions"]["torch"] == torch.__version__
    assert about["hardware"]["cpus"] == os.cpu_count()


@more
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout_and_says_whether_python_files_differ_from_it(tmp_path):
    package = tmp_path / "checkout" / "ticgrpo_theory"
    room = package / "experiment"
    room.mkdir(parents=True)
    shutil.copy(Path(results_file.__file__).parents[1] / "__init__.py", package)
    (package / "inputs").mkdir()
    for name in ("__init__", "tracebacks"):
        shutil.copy(Path(results_file.__file__).parents[1] / "inputs" / f"{name}.py", package / "inputs")
    for name in ("__init__", "results_file", "atomic", "own_files"):
        shutil.copy(Path(results_file.__file__).with_name(f"{name}.py"), room)
    # Reads the copy, not the installed package: the program's folder comes first on the path.
    code = "from ticgrpo_theory.experiment import results_file; print(results_file._commit())"

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=package.parent, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit() -> dict | None:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=package.parent, capture_output=True, text=True, check=True
        )
        return eval(done.stdout)

    assert commit() is None
    git("init")
    assert commit() is None
    (package.parent / "notes.md").write_text("")
    git("add", "notes.md")
    git("commit", "-m", "notes only: the package is not part of this checkout")
    assert commit() is None
    git("add", ".")
    git("commit", "-m", "all")
    assert commit() == {"hash": git("rev-parse", "HEAD"), "changed": False}
    (package.parent / "notes.md").write_text("changed")
    assert commit() == {"hash": git("rev-parse", "HEAD"), "changed": False}
    (package / "__init__.py").write_text("# changed")
    assert commit() == {"hash": git("rev-parse", "HEAD"), "changed": True}


def test_a_result_is_read_for_its_own_configuration_only(tmp_path):
    results_file.write("t", ROWS, config=Config(), results_version=3, seconds=0.0, folder=tmp_path)
    assert len(results_file.read("t", config=Config(), results_version=3, folder=tmp_path)) == 3
    with pytest.raises(
        ValueError,
        match=r"t\.parquet is of another configuration \(etas: \[0\.1\] in the file, \[0\.2\] requested\); "
        r"make it with `python experiments/t\.py`",
    ):
        results_file.read("t", config=Config(etas=(0.2,)), folder=tmp_path)
    with pytest.raises(ValueError, match=r"has RESULTS_VERSION 3, not 4; make it with `make bias`"):
        results_file.read("t", results_version=4, folder=tmp_path, command="make bias")


def test_a_field_marked_unrecorded_is_not_part_of_the_configuration(tmp_path):
    results_file.write(
        "t", ROWS, config=Config(results=tmp_path), results_version=3, seconds=0.0, folder=tmp_path
    )
    assert len(results_file.read("t", config=Config(), folder=tmp_path)) == 3
    assert "results" not in json.loads((tmp_path / "t.json").read_text())["config"]


@pytest.mark.parametrize("absent", ["t.parquet", "t.json"])
def test_an_absent_file_is_refused(tmp_path, absent):
    results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    (tmp_path / absent).unlink()
    with pytest.raises(
        ValueError, match=rf"{absent} does not exist; make it with `python experiments/t\.py`"
    ):
        results_file.read("t", folder=tmp_path)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:]])
def test_damaged_rows_are_refused(tmp_path, damage):
    path = results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"t\.parquet is not what t\.json describes: damaged, or of a run that"
    ):
        results_file.read("t", folder=tmp_path)


def test_the_rows_of_one_run_and_the_sidecar_of_another_are_refused(tmp_path):
    results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    sidecar = (tmp_path / "t.json").read_bytes()
    results_file.write("t", ROWS[:2], **ABOUT, folder=tmp_path)
    (tmp_path / "t.json").write_bytes(sidecar)
    with pytest.raises(ValueError, match="or of a run that was killed"):
        results_file.read("t", folder=tmp_path)


@pytest.mark.parametrize("sidecar", [b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe", b'{"rows_sha256": "a"}'])
def test_a_damaged_sidecar_is_refused(tmp_path, sidecar):
    results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    (tmp_path / "t.json").write_bytes(sidecar)
    with pytest.raises(ValueError, match=r"t\.json is not the sidecar of a result, cut off or edited"):
        results_file.read("t", folder=tmp_path)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "there are 0 rows; a result has at least one"),
        ([{"a": 1}, {"b": 1}], r"row 1 has the columns \['b'\], row 0 \['a'\]"),
        ([{"a": 1, "b": 1}, {"b": 1, "a": 1}], "give all rows the same, in order"),
        (
            [{"a": 1.0}, {"a": math.nan}],
            "column 'a' of row 1 is nan, in .*; compute it, or list the column in",
        ),
        ([{"a": None}], "column 'a' of row 0 is None"),
        ([{"a": np.float32("nan")}], "column 'a' of row 0 is nan"),
        ([{"a": torch.tensor(1.0)}], r"is tensor\(1\.\) \(Tensor\); .*of a tensor take \.item\(\)"),
        ([{"a": 2**63}], r"is 9223372036854775808 \(int\); a result holds bool, int below 2\*\*63"),
        ([{"a": 1}, {"a": "1"}], r"column 'a' mixes \['int', 'str'\]; give it values of one type"),
        ([{"a": 1}, {"a": True}], r"column 'a' mixes \['bool', 'int'\]"),
    ],
)
def test_rows_that_a_result_cannot_hold_are_refused_before_anything_is_written(tmp_path, rows, text):
    with pytest.raises(ValueError, match=text):
        results_file.write("t", rows, **ABOUT, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_values_are_kept_where_they_are_declared_and_only_there(tmp_path):
    rows = [{"a": 1.0, "b": "x"}, {"a": math.nan, "b": None}]
    results_file.write("t", rows, **ABOUT, folder=tmp_path, may_be_missing=["a", "b"])
    assert results_file.read("t", folder=tmp_path).isna().to_numpy().tolist() == [
        [False, False],
        [True, True],
    ]
    with pytest.raises(ValueError, match=r"column 'b' of row 1 is None"):
        results_file.write("t", rows, **ABOUT, folder=tmp_path, may_be_missing=["a"])
    with pytest.raises(ValueError, match=r"may_be_missing names \['c'\], which are not among the columns"):
        results_file.write("t", rows, **ABOUT, folder=tmp_path, may_be_missing=["a", "b", "c"])


@pytest.mark.parametrize("name", ["", "/t", "../t", "a/../../t"])
def test_a_name_outside_the_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a result; use a path below the results folder"):
        results_file.write(name, ROWS, **ABOUT, folder=tmp_path)


def test_a_name_may_lie_in_a_folder_below(tmp_path):
    results_file.write("certified/t", ROWS, **ABOUT, folder=tmp_path)
    assert len(results_file.read("certified/t", folder=tmp_path)) == 3


def test_a_configuration_that_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the configuration holds tensor\(1\.\) \(Tensor\)"):
        results_file.write("t", ROWS, **{**ABOUT, "config": {"x": torch.tensor(1.0)}}, folder=tmp_path)
