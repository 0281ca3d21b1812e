"""Every odd input is refused in a sentence that names the value and the way out, or gives the right number.

The cases are in odd_worlds.py, odd_problems.py and odd_runs.py. They are called in a process of their own,
because these tests run under a type checker that would answer in the place of the library.
"""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.odd_cases import Odd, happened, summed
from tests.unit.odd_problems import PROBLEMS
from tests.unit.odd_runs import RUNS
from tests.unit.odd_worlds import WORLDS
from ticgrpo_theory.cli.world_files import world_of_file
from ticgrpo_theory.experiment.grid import from_yaml, make
from ticgrpo_theory.experiment.yaml_fields import without

ROOT = Path(__file__).parents[2]
CASES = {**WORLDS, **PROBLEMS, **RUNS}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, tuple[str, str]]:
    """What happened in each case: ("value", number), or the class of an exception and its text."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.unit.odd_cases"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=240, check=True)
    lines = (json.loads(line) for line in ran.stdout.splitlines())
    return {name: (kind, text) for name, kind, text in lines}


def agrees(case: Odd, kind: str, text: str) -> bool:
    """Whether that is what the case should come to."""
    if isinstance(case.expected, str):
        return kind == "ValueError" and re.search(case.expected, text, re.DOTALL) is not None
    number = summed(case.expected() if callable(case.expected) else case.expected)
    return kind == "value" and math.isclose(float(text), number, rel_tol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_an_odd_input_is_refused_in_a_sentence_or_gives_the_right_number(outcomes, name):
    kind, text = outcomes[name]
    assert agrees(CASES[name], kind, text), f"{kind}: {text}"


def test_the_comparison_tells_silence_other_errors_and_other_numbers_apart():
    def zero() -> float:
        return 1 / 0

    def unclear() -> float:
        raise ValueError("no")

    sentence = Odd(lambda: 1.0, "value.*way out")
    for call, found in ((lambda: 1.0, "value"), (zero, "ZeroDivisionError"), (unclear, "ValueError")):
        kind, text = happened(sentence._replace(call=call))
        assert kind == found and not agrees(sentence, kind, text)
    number = Odd(lambda: 1.0, 1.0)
    assert agrees(number, *happened(number)) and not agrees(
        number._replace(expected=1.001), *happened(number)
    )
    assert agrees(sentence, "ValueError", "value, the limit\nand the way out")


TREE = "kind: prefix_tree\nvocab_size: 2\nhorizon: 1\n"
AUTOMATON = "kind: automaton\nvocab_size: 2\nhorizon: 1\ntransition: [[0, 1], [1, 1]]\n"


@pytest.mark.parametrize("text", [TREE, AUTOMATON])
def test_a_list_of_rewards_leaves_nothing_to_be_otherwise(tmp_path, text):
    file = tmp_path / "world.yaml"
    file.write_text(text + "reward: {1: 1}\notherwise: 0.5\n")
    world_of_file(file)
    file.write_text(text + "reward: [0, 1]\notherwise: 0.5\n")
    line = len(text.splitlines()) + 2
    with pytest.raises(
        ValueError,
        match=rf"world\.yaml, line {line}: otherwise = 0\.5 .* leave otherwise out, or write a table",
    ):
        world_of_file(file)


@pytest.mark.parametrize(
    ("fixed", "etas", "text"),
    [
        ("{K: 2.5}", "[0.1]", r"sweep\.yaml, line 2: K = 2\.5 \(float\) is not int"),
        ("{K: 2}", "[0.1, much]", r"sweep\.yaml, line 4: etas = 'much' is not a number"),
        (
            "{K: 2}",
            "0.1",
            r"sweep\.yaml, line 4: etas = 0\.1 is not a list of values; write etas: \[\.\.\.\]",
        ),
    ],
)
def test_a_value_of_a_sweep_is_refused_by_file_and_line(tmp_path, fixed, etas, text):
    file = tmp_path / "sweep.yaml"
    file.write_text(f"experiment: bias_vs_K\nfixed: {fixed}\ngrid:\n  etas: {etas}\n")
    reference, same, varied = from_yaml(file)
    with pytest.raises(ValueError, match=text):
        make(reference, same, varied)
    # What the command line leaves out of a file keeps its lines; what it adds has none.
    with pytest.raises(ValueError, match=text):
        make(reference, without(same, ["other"]), without(varied, []))
    assert without(varied, ["etas"]) == {} and without({"K": 2}, []).lines == {}
