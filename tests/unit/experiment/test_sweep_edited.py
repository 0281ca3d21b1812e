"""A sweep whose script, or a file that it imports, was edited: nothing old comes back without a word."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ticgrpo_theory.experiment.grid import make
from ticgrpo_theory.experiment.sweep import Summary, sweep
from ticgrpo_theory.experiment.workers import workers

MINE = """
from dataclasses import dataclass
from helper import factor

RESULTS_VERSION = 1

@dataclass(frozen=True)
class Config:
    x: int = 1

def rows(cfg: Config):
    if cfg.x < 0:
        raise ValueError("no such number")
    return [{"y": factor() * cfg.x}]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "helper", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("def factor():\n    return 2\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    return tmp_path


def run(folder: Path, values: list[int], trusted: bool = False) -> Summary:
    console = Console(file=io.StringIO())
    grid = make("mine.py", {}, {"x": values}, folder=folder)
    return sweep("t", grid, workers("sequential"), folder=folder, trusted=trusted, console=console)


UNFINISHED, FINISHED = [1, -1], [1, 2]


@pytest.mark.parametrize("values", [UNFINISHED, FINISHED], ids=["cells", "table"])
@pytest.mark.parametrize("name", ["mine.py", "helper.py"])
def test_what_was_computed_before_an_edit_is_refused_by_the_name_of_the_file(folder, name, values):
    run(folder, values)
    (folder / name).write_text((folder / name).read_text() + "\n# another line\n")
    with pytest.raises(ValueError, match=rf"from before {name} was edited") as refused:
        run(folder, values)
    assert "--trust" in str(refused.value) and "delete" in str(refused.value)
    # An edit that is taken back leaves nothing to refuse.
    (folder / name).write_text((folder / name).read_text().removesuffix("\n# another line\n"))
    assert run(folder, values).kept == values.count(1) + values.count(2)


@pytest.mark.parametrize("values", [UNFINISHED, FINISHED], ids=["cells", "table"])
def test_it_is_kept_where_another_file_was_edited_or_where_it_is_trusted(folder, values):
    kept = run(folder, values).computed
    (folder / "unrelated.py").write_text("x = 2\n")
    assert run(folder, values).kept == kept
    (folder / "helper.py").write_text("def factor():\n    return 3\n")
    assert run(folder, values, trusted=True).kept == kept


def test_a_table_says_from_which_files_it_comes(folder):
    run(folder, FINISHED)
    about = json.loads((folder / "t.json").read_text())
    assert sorted(about["sources"]) == ["helper.py", "mine.py"]


def test_a_table_that_does_not_say_so_is_refused(folder):
    run(folder, FINISHED)
    about = json.loads((folder / "t.json").read_text())
    del about["sources"]
    (folder / "t.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"from before helper.py, mine.py were edited"):
        run(folder, FINISHED)
