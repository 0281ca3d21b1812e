"""Certificates prove themselves in a bare Python, and a changed one is refused with the reason."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thinned import more

ROOT = Path(__file__).parents[3]
CERTIFIED = ROOT / "results" / "certified"


def checked(folder: Path) -> tuple[int, str]:
    """(exit code, all that was said) of the script without site packages."""
    command = [sys.executable, "-S", str(ROOT / "check_certificates.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    "name", ["E7.proof", "E7.vanish", "E9.variance", "Alg1.kl", "A5.1", "TIC.reuse", "T5.1", "E11"]
)
def test_a_certificate_is_proved_by_nothing_but_fractions(tmp_path, name):
    text = (CERTIFIED / f"{name}.json").read_text()
    (tmp_path / f"{name}.json").write_text(text)
    count = sum(bool(value["formula"]) for value in json.loads(text)["values"])
    code, said = checked(tmp_path)
    assert code == 0 and said.startswith(f"{count} values proved"), said


MUTANTS = {
    "a digit": (lambda v: v | {"value": v["value"].replace("105441", "105442")}, "is printed, 0.10544146"),
    "a sign": (lambda v: v | {"value": "-" + v["value"]}, "is printed"),
    "the world": (lambda v: v | {"line": v["line"].replace("old=3/5", "old=2/5")}, "is printed"),
    "a reward": (lambda v: v | {"line": v["line"].replace("r=1,0,0,1", "r=1,0,1")}, "one reward for each"),
    "a policy": (lambda v: v | {"line": v["line"].replace("3/5,", "8/5,")}, "old: no probabilities"),
    "the formula": (
        lambda v: v | {"formula": v["formula"].replace("'theta'", "'old'")},
        "is not proved above 0",
    ),
    "a table": (lambda v: v | {"formula": "grad('old')"}, "is not proved above 0"),
    "no number": (lambda v: v | {"formula": "__import__('os')"}, "no formula"),
    "a hidden word": (lambda v: v | {"formula": "_role('old')"}, "no formula"),
    "a missing key": (lambda v: {key: v[key] for key in v if key != "line"}, "'line'"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_changed_certificate_is_refused(tmp_path, name):
    change, words = MUTANTS[name]
    certificate = json.loads((CERTIFIED / "E7.proof.json").read_text())
    changed = change(certificate["values"][0])
    assert changed != certificate["values"][0]
    certificate["values"][0] = changed
    (tmp_path / "E7.proof.json").write_text(json.dumps(certificate))
    code, said = checked(tmp_path)
    assert code == 1 and "E7.proof.json: " in said and words in said, said


def test_another_id_than_its_file_and_an_empty_folder_are_refused(tmp_path):
    assert checked(tmp_path)[0] == 1
    (tmp_path / "E8.json").write_text((CERTIFIED / "E7.proof.json").read_text())
    code, said = checked(tmp_path)
    assert code == 1 and "another id than its file" in said


@more
def test_every_certificate_with_a_formula_is_proved(tmp_path):
    code, said = checked(CERTIFIED)
    assert code == 0 and "no certificate is wrong" in said, said


def test_the_two_files_are_short_and_import_nothing_but_the_standard_library():
    for name in ("check_certificates.py", "certificate_worlds.py"):
        text = (ROOT / name).read_text()
        assert len(text.splitlines()) < 300
        nodes = list(ast.walk(ast.parse(text)))
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        modules |= {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
        assert modules <= sys.stdlib_module_names | {"certificate_worlds"}
