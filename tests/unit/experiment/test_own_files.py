"""own_files.py: a script and what it imports of the user's own, and nothing that is installed."""

from pathlib import Path

import pytest

from ticgrpo_theory.experiment.own_files import edited, files_of, said_of
from ticgrpo_theory.experiment.source import files, find

FILES = {
    "mine.py": "import numpy, ticgrpo_theory.mdp\nimport helper\nfrom tools import scales\n",
    "helper.py": "def f():\n    from deep.down import below\n    return below.value\n",
    "tools/__init__.py": "",
    "tools/scales.py": "from . import units\nfrom .units import METRE\nimport mine\n",
    "tools/units.py": "METRE = 1\n",
    "deep/down/below.py": "value = 3\n",
    "unrelated.py": "import helper\n",
    "numpy.txt": "",
}
IMPORTED = [
    "deep/down/below.py",
    "helper.py",
    "mine.py",
    "tools/__init__.py",
    "tools/scales.py",
    "tools/units.py",
]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_imports_are_followed_through_files_packages_and_functions(folder):
    assert sorted(files_of(folder / "mine.py")) == IMPORTED
    assert sorted(files_of(folder / "tools" / "units.py")) == ["units.py"]


def test_what_lies_in_the_folder_of_the_command_is_followed_too(folder):
    script = folder / "deep" / "script.py"
    script.write_text("import helper\n")
    assert list(files_of(script)) == ["script.py"]
    assert sorted(Path(name).name for name in files_of(script, folder)) == [
        "below.py",
        "helper.py",
        "script.py",
    ]


def test_an_experiment_of_this_package_does_not_drag_the_package_in():
    names = list(files(find("bias_vs_K")))
    assert names == ["bias_vs_K.py"]


@pytest.mark.parametrize("name", IMPORTED)
def test_an_edit_of_any_of_them_is_noticed_by_name(folder, name):
    before = files_of(folder / "mine.py")
    (folder / name).write_text(FILES[name] + "# and more\n")
    assert edited(before, files_of(folder / "mine.py")) == [name]


def test_files_that_come_go_or_were_never_known_count_and_unrelated_ones_do_not(folder):
    before = files_of(folder / "mine.py")
    (folder / "unrelated.py").write_text("1 + 1\n")
    assert edited(before, files_of(folder / "mine.py")) == []
    (folder / "tools" / "units.py").unlink()
    assert edited(before, files_of(folder / "mine.py")) == ["tools/units.py"]
    assert edited(None, before) == IMPORTED


def test_a_file_that_is_no_python_counts_with_its_bytes(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    assert list(files_of(tmp_path / "broken.py")) == ["broken.py"]


def test_how_edits_are_said():
    assert said_of(["a.py"]) == "a.py was edited"
    assert said_of(["a.py", "b.py"]) == "a.py, b.py were edited"
    assert said_of(["a.py", "b.py", "c.py", "d.py", "e.py"]) == "a.py, b.py, c.py and 2 more were edited"
