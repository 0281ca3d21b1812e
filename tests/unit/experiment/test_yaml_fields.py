"""yaml_fields.py: every file that people write is read alike, and errors name file, line and key."""

from pathlib import Path

import pytest

from llm.config.config import load
from tests.thinned import one_in
from ticgrpo_theory.cli.world_files import world_of_file
from ticgrpo_theory.experiment.grid import from_yaml
from ticgrpo_theory.experiment.yaml_fields import line_of, parsed

WORLD = "kind: prefix_tree\nvocab_size: 2\nhorizon: 1\nreward: {1: 1}\n"
SWEEP = "experiment: bias_vs_K\nfixed: {K: 2}\ngrid:\n  etas: [0.1]\n"
RUN = "seed: 1\nouter_steps: 5\noptimizer:\n  lr: 1e-5\n"

READERS = {"world": (world_of_file, WORLD), "sweep": (from_yaml, SWEEP), "run": (load, RUN)}

FAULTS = [
    ("world", "horizon: 2\n", r"line 5: 'horizon' is given twice, first in line 3; keep one"),
    ("sweep", "  etas: [0.2]\n", r"line 5: 'etas' is given twice, first in line 4; keep one"),
    ("run", "outer_steps: 6\n", r"line 5: 'outer_steps' is given twice, first in line 2; keep one"),
    ("run", "  lr: 1e-6\n", r"line 5: 'lr' is given twice, first in line 4; keep one"),
    ("world", "horizn: 2\n", r"line 5 has no field 'horizn'; the nearest is 'horizon'"),
    ("sweep", "grids: {}\n", r"line 5 has no part 'grids'; the nearest is 'grid'"),
    ("run", "  lrr: 1\n", r"line 5: unknown field optimizer.lrr; did you mean optimizer.lr"),
    ("world", "otherwise: much\n", r"line 5: otherwise = 'much' is not a number"),
    ("run", "  eps: small\n", r"line 5: optimizer.eps = 'small' is not a number"),
]


@pytest.mark.parametrize("reader", READERS)
def test_a_file_without_a_fault_is_read(tmp_path, reader):
    read, text = READERS[reader]
    (tmp_path / "file.yaml").write_text(text)
    read(tmp_path / "file.yaml")


@pytest.mark.parametrize(("reader", "line", "message"), FAULTS)
def test_a_fault_is_refused_by_file_line_and_key(tmp_path, reader, line, message):
    read, text = READERS[reader]
    (tmp_path / "file.yaml").write_text(text + line)
    with pytest.raises(ValueError, match=rf"file\.yaml, {message}"):
        read(tmp_path / "file.yaml")


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_absent_is_named_with_what_it_should_be(tmp_path: Path, reader):
    with pytest.raises(ValueError, match=r"absent\.yaml cannot be read .*; give a YAML file of a"):
        READERS[reader][0](tmp_path / "absent.yaml")


def test_a_name_that_comes_from_no_file_has_no_line():
    assert line_of(parsed("a: 1\nb: {c: 2}", "f")["b"], "c", "f") == "f, line 2"
    assert line_of({"c": 2}, "c", "f") == "f" and line_of(parsed("a: 1", "f"), "c", "f") == "f"


def test_what_is_taken_over_from_another_mapping_gives_way_and_is_not_given_twice():
    found = parsed("b: &x {a: 1}\nc: {y: &y {<<: *x, a: 2}}\nz: {<<: *y, d: 3}", "f")
    assert found["c"]["y"] == {"a": 2} and found["z"] == {"a": 2, "d": 3}


LEVELS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 8))
MANY = f"a0: &a0 [0]\n{LEVELS}"
MERGED = "b0: &b0 {k: 1}\n" + "".join(
    f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 30)}]}}\n" for n in range(1, 6)
)


EXPLODING = {
    "list": ("x: &x [1, *x]\n", r"file\.yaml contains itself: an alias \(\*\) stands inside its own anchor"),
    "mapping": ("x: &x {y: {z: *x}}\n", r"file\.yaml contains itself"),
    "many": (MANY, r"file\.yaml holds more than 1,000,000 values once its aliases \(\*\) are written out"),
    "merged": (MERGED, r"file\.yaml holds more than 10,000 entries in one mapping once its aliases"),
    "deep": ("x: " + "[" * 2000, r"file\.yaml contains itself, or nests too deeply"),
    "digits": (f"x: {'9' * 5000}\n", r"file\.yaml is not YAML: Exceeds the limit"),
    "date": ("x: 2001-99-99\n", r"file\.yaml is not YAML: month must be in"),
}


# Every second of three readers: each kind is left with one or two, and each reader with some.
@pytest.mark.parametrize(
    ("kind", "reader"), one_in(2, [(kind, reader) for kind in EXPLODING for reader in READERS])
)
def test_a_file_that_contains_itself_or_explodes_is_refused_by_every_reader(tmp_path, kind, reader):
    text, message = EXPLODING[kind]
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        READERS[reader][0](tmp_path / "file.yaml")
    assert len(str(refused.value)) < 300


def test_an_alias_that_is_used_twice_is_no_circle():
    assert parsed("x: &x [1, 2]\ny: [*x, *x, {z: *x}]", "f")["y"] == [[1, 2], [1, 2], {"z": [1, 2]}]
