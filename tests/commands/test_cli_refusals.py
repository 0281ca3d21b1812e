"""Bad input to `ticgrpo`: one line that names the value and the way out, exit code 1, nothing on stdout."""

import pytest
import torch

from tests.commands.typed_commands import make_own, refusal, run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(make_own(tmp_path))
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n", encoding="utf-8")
    (tmp_path / "odd.py").write_text(
        "number = 3\n\n\ndef two(a, b):\n    return a\n\n\ndef wrong():\n    return 3\n\n\n"
        "def sized(n):\n    return n\n",
        encoding="utf-8",
    )
    return tmp_path


XOR = ("--world", "xor")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("gradient", "--world", "xorr"), "unknown world 'xorr'; nearest names: xor"),
        (("bias", *XOR, "--estimator", "grppo"), "unknown estimator 'grppo'; nearest names: grpo"),
        (("gradient", "--world", "absent.yaml"), "absent.yaml cannot be read"),
        (("gradient", "--world", "mine.py:bild"), "world = mine.py:bild cannot be imported (AttributeError"),
        (("gradient", "--world", "absent.py:build"), "absent.py:build cannot be imported (FileNotFoundError"),
        (("gradient", "--world", "odd.py:number"), "odd.py:number is int; it must be a TokenMDP"),
        (("gradient", "--world", "odd.py:sized"), "odd.py:sized needs n; name a function that takes no"),
        (("moments", "--estimator", "absent:x"), "estimator = absent:x cannot be imported (ModuleNotFound"),
        (("moments", "--estimator", "broken.py:x"), "No module named 'nowhere_at_all'"),
        (("moments", "--estimator", "odd.py:number"), "estimator 3 is neither a name, an Estimator"),
        (("moments", "--estimator", "odd.py:wrong"), "estimator 3 is neither a name, an Estimator"),
        (("moments", "--estimator", "odd.py:two"), "odd.py:two needs a, b: give them with --set"),
        (
            ("gradient", *XOR, "--estimator", "grpo", "--set", "eps_hihg=1"),
            "grpo has no parameter 'eps_hihg'; the nearest is 'eps_high'",
        ),
        (("gradient", *XOR, "--set", "eps_low=0.1"), "tic_grpo has no parameter 'eps_low'"),
        (("gradient", *XOR, "--estimator", "rloo", "--set", "delta=1"), "--set delta: rloo takes no param"),
        (
            ("gradient", *XOR, "--estimator", "mine.py:ENTRY", "--set", "delta=1"),
            "--set delta: mine.py:ENTRY is an estimator that takes no parameters",
        ),
        (("gradient", *XOR, "--set", "delta"), "--set delta: write --set field=value"),
        (("gradient", *XOR, "--set", "delta=0", "delta=1"), "--set delta=1: delta is given twice"),
        (("gradient", *XOR, "--set", "delta=0,1"), "--set delta: takes one value, not 2"),
        (("gradient", *XOR, "--set", "delta=small"), "--set delta = 'small' is not a number"),
        (("gradient", *XOR, "--estimator", "dapo", "--set", "eps_low=-2"), "eps_low = -2.0"),
        (("gradient", *XOR, "--group-size", "0"), "group_size = 0: a group has a whole number >= 1"),
        (("gradient", *XOR, "--estimator", "rloo", "--group-size", "1"), "undefined for a group of 1"),
        (("gradient", *XOR, "--inner-steps", "-1"), "inner_steps = -1: give 0 or more steps"),
        (("bias", *XOR, "--learning-rate", "nan"), "learning_rate = nan: a step size must be > 0"),
        (("bias", *XOR, "--steps", "reused", "--group-size", "inf"), "group_size = inf: an infinite group"),
        (("decompose", *XOR, "--estimator", "dapo"), "no decomposition is stated for the estimator dapo"),
        (("bounds", *XOR, "--inner-steps", "0"), "inner_steps = 0: K is a whole number >= 1"),
        (("bounds", *XOR, "--outer-steps", "0"), "outer_steps = 0"),
        (("simulate", *XOR, "--replicates", "1"), "replicates = 1: an interval needs"),
        (("simulate", *XOR, "--group-size", "inf"), "group_size = inf must be a whole number"),
        (("simulate", *XOR, "--outer-steps", "0"), "outer_steps = 0 must be >= 1"),
        (("simulate", *XOR, "--device", "tpu"), "device = 'tpu' is not there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("unchecked_signatures")
def test_bad_input_ends_in_one_line_and_exit_code_1(capsys, args, message):
    assert message in refusal(capsys, *args)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(capsys):
    assert "device = 'cuda' is not there" in refusal(capsys, "simulate", *XOR, "--device", "cuda")


@pytest.mark.parametrize("args", [("gradient", "--wrld", "xor"), ("bias", "--steps", "other"), ("gradint",)])
def test_options_that_do_not_exist_are_errors_of_usage(capsys, args):
    assert run(*args) == 2
    assert not capsys.readouterr().out


def test_an_interrupted_command_says_what_it_leaves(monkeypatch, capsys):
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ticgrpo_theory.cli.request.request_of", interrupted)
    assert run("gradient") == 130
    assert capsys.readouterr().err == "interrupted: nothing was written\n"
    assert run("simulate", "--folder", "runs") == 130
    assert "the same command goes on from there" in capsys.readouterr().err
