"""results_file.py: a run that finds its own numbers again, but for rounding, leaves its files as they are."""

import math

import pytest

from tests.unit.experiment.test_results_file import ABOUT, ROWS
from ticgrpo_theory.experiment import results_file


def near(change: float, **changed) -> list[dict]:
    """ROWS with 0.3 moved by `change`, and other values in the first row."""
    return [ROWS[0] | {"bias": 0.1 + 0.2 + change} | changed, *ROWS[1:]]


def test_the_same_numbers_but_for_rounding_leave_the_files_as_they_are(tmp_path):
    files = [results_file.write("t", ROWS, **ABOUT, folder=tmp_path), tmp_path / "t.json"]
    before = [file.read_bytes() for file in files]
    results_file.write("t", near(4e-16), **{**ABOUT, "seconds": 9.0}, folder=tmp_path)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    ("rows", "changed"),
    [
        (near(1e-12), {}),
        (near(0.0, k=11), {}),
        (near(0.0, world="trie"), {}),
        (near(0.0, bias=math.inf), {}),
        (near(4e-16)[:2], {}),
        (near(4e-16), {"results_version": 4}),
        (near(4e-16), {"config": {"etas": (0.2,), "G": 4}}),
    ],
)
def test_any_other_number_version_or_configuration_is_written(tmp_path, rows, changed):
    file = results_file.write("t", ROWS, **ABOUT, folder=tmp_path)
    sidecar = (tmp_path / "t.json").read_bytes()
    results_file.write("t", rows, **{**ABOUT, "seconds": 9.0, **changed}, folder=tmp_path)
    assert (tmp_path / "t.json").read_bytes() != sidecar
    assert results_file.read("t", folder=tmp_path).to_dict("records") == sorted(
        rows, key=lambda row: list(row.values())
    )
    assert file.is_file()


def test_missing_values_are_alike_to_themselves_only(tmp_path):
    rows = [{"a": None, "b": 1.0}]
    for other, same in ((rows, True), ([{"a": 0.0, "b": 1.0}], False), ([{"a": 1e-20, "b": 1.0}], False)):
        options = {**ABOUT, "folder": tmp_path, "may_be_missing": ["a"]}
        results_file.write("t", [{"a": 7.0, "b": 1.0}], **options)
        results_file.write("t", rows, **options)
        before = (tmp_path / "t.json").read_bytes()
        results_file.write("t", other, **{**options, "seconds": 9.0})
        assert ((tmp_path / "t.json").read_bytes() == before) is same
