"""Every command that a help or README.md shows runs as it is printed; `ticgrpo --help` is quick."""

import json
import shlex
import subprocess
import sys

import pytest

from tests.commands.typed_commands import ROOT, examples, make_own, readme_commands, run
from tests.thinned import more, only
from ticgrpo_theory.cli import main

SHOWN = [(command, args) for command in main.COMMANDS for args in examples(command)]
SHOWN += [("README.md", args) for args in readme_commands() if args[0] != "sweep"]
QUICK = [(where, args) for where, args in SHOWN if args[0] not in ("sweep", "simulate", "demo")]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(make_own(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("where", "args"), only(QUICK, SHOWN), ids=lambda x: x if isinstance(x, str) else shlex.join(x)
)
def test_every_example_runs(capsys, where, args):
    # Pools of processes are started elsewhere, in the tests of sweeps.
    given = [*args, "--backend", "sequential"] if args[0] == "sweep" and "--jobs" not in args else args
    assert run(*given) == 0
    printed = capsys.readouterr()
    assert printed.out.strip()
    if "--json" in args:
        assert json.loads(printed.out)


def test_every_command_has_examples_of_its_own_one_of_them_in_json():
    for command in main.COMMANDS:
        shown = examples(command)
        assert shown and all(args[0] == command for args in shown)
        assert any("--json" in args for args in shown)


def test_the_readme_shows_several_commands():
    assert len({args[0] for args in readme_commands()}) >= 4


@pytest.mark.parametrize("command", list(main.COMMANDS))
def test_help_has_the_examples_and_explains_every_option(capsys, command):
    assert run(command, "--help") == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for args in examples(command):
        assert f"ticgrpo {args[0]}" in printed
    assert "--json" in printed and "Print" in printed


def test_the_help_of_all_is_one_line_each(capsys):
    assert run("--help") == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for command in main.COMMANDS.values():
        first, _, rest = (command.__doc__ or "").partition("\n")
        assert " ".join(first.split()) in printed
        assert not rest or rest.split("\n")[-2].strip() not in printed


def said_by(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ticgrpo_theory.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


@more
def test_the_program_answers_with_exit_codes():
    given = said_by("gradient", "--world", "xor", "--group-size", "2", "--json")
    assert given.returncode == 0 and json.loads(given.stdout)["group_size"] == 2 and not given.stderr
    refused = said_by("gradient", "--world", "xorr")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: unknown world 'xorr'") and refused.stderr.count("\n") == 1
    assert said_by("gradint").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completions_are_printed_with_the_options_of_every_command(shell):
    made = said_by("--tyro-print-completion", shell)
    assert made.returncode == 0 and "--group-size" in made.stdout and "decompose" in made.stdout


def test_help_waits_for_no_library_that_computes():
    code = (
        "import sys, ticgrpo_theory.cli.main as cli\n"
        "try: cli.main(['simulate', '--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'numba', 'numpy', 'pandas', 'scipy', 'joblib', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(slow)) or 0)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert made.returncode == 0, made.stderr


def test_an_answer_waits_for_no_library_that_it_does_not_use():
    """Nor for the compiler of torch, which a formula that is written down does not need."""
    code = (
        "import sys, ticgrpo_theory.cli.main as cli\n"
        "cli.main(['gradient', '--json'])\n"
        "cli.main(['simulate', '--replicates', '2', '--outer-steps', '2'])\n"
        "slow = {'scipy.stats', 'pandas', 'matplotlib', 'sympy', 'torch._dynamo'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(slow)) or 0)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert made.returncode == 0, made.stderr
