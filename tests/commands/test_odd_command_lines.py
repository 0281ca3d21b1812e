"""Every mistake of odd_command_lines.py ends in words that help: no traceback, silence or endless line."""

import sys

import pytest

from llm.config import config
from tests.commands.odd_command_lines import CONFIGS, FAILED, MISUSED, REFUSED
from tests.commands.odd_files import make_odd
from tests.commands.typed_commands import refusal, run
from ticgrpo_theory.experiment.source import load

LONGEST = 1200
"""Characters of a line that somebody reads."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return make_odd(tmp_path_factory.mktemp("odd"))


@pytest.fixture(autouse=True)
def folder(odd, monkeypatch):
    monkeypatch.chdir(odd)
    load.cache_clear()


@pytest.mark.usefixtures("unchecked_signatures")
@pytest.mark.parametrize(("typed", "said"), REFUSED, ids=lambda text: text[:60])
def test_a_mistake_is_answered_in_one_line(capsys, typed, said):
    line = refusal(capsys, *typed.split())
    assert said in line and len(line) < LONGEST


@pytest.mark.parametrize(("typed", "said"), FAILED, ids=lambda text: text[:60])
def test_a_cell_that_fails_is_named_with_its_error(capsys, typed, said):
    assert run(*typed.split()) == 1
    printed = capsys.readouterr()
    assert said in printed.err and not printed.out and "Traceback" not in printed.err


@pytest.mark.parametrize("typed", MISUSED)
def test_what_is_no_command_is_answered_with_the_usage(capsys, typed):
    assert run(*typed.split()) == 2
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("file", "said"), CONFIGS)
def test_a_configuration_is_refused_by_file_line_and_key(monkeypatch, file, said):
    monkeypatch.setattr(sys, "argv", ["llm.config", "--config", file])
    with pytest.raises(SystemExit) as stopped:
        config.main()
    line = str(stopped.value)
    assert line.startswith("error: ") and said in line and len(line) < LONGEST and "\n" not in line


def test_there_are_many_of_them_and_each_is_typed_once():
    typed = [line for line, _ in (*REFUSED, *FAILED, *CONFIGS)] + MISUSED
    assert len(typed) == len(set(typed)) >= 70
