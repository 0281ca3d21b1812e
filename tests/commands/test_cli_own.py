"""Estimators and worlds of a user's own, from Python and YAML files in the folder of the command."""

import math
import re

import pytest
import torch

from tests.commands.typed_commands import ROOT, answer, make_own, refusal, run
from tests.properties.tolerances import EXACT, VISIBLE
from ticgrpo_theory.cli.request import world_of
from ticgrpo_theory.cli.world_files import world_of_file
from ticgrpo_theory.estimators.catalogue import dapo, grpo
from ticgrpo_theory.exact import expected_gradient, expected_return, policy_gradient
from ticgrpo_theory.mdp import TokenMDP
from ticgrpo_theory.worlds import WORLDS, first_token, graded


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(make_own(tmp_path))
    return tmp_path


def gradient_of(capsys, *options: str) -> torch.Tensor:
    (entry,) = answer(capsys, "gradient", "--group-size", "2", *options)["estimators"]
    return torch.tensor(entry["gradient"], dtype=torch.float64)


def xor_gradient(estimator) -> torch.Tensor:
    mdp = WORLDS["xor"].build()
    old = WORLDS["xor"].theta_old(mdp)
    return expected_gradient(mdp, old, old, estimator, 2)


@pytest.mark.parametrize("place", ["mine.py", "./mine.py", "mine"])
def test_an_estimator_is_found_in_a_file_and_in_a_module_of_this_folder(capsys, place):
    found = gradient_of(capsys, "--world", "xor", "--estimator", f"{place}:ENTRY")
    assert found.equal(xor_gradient(dapo()))


def test_a_factory_takes_parameters(capsys):
    made = gradient_of(capsys, "--world", "xor", "--estimator", "mine.py:narrow", "--set", "eps=0")
    assert made.equal(xor_gradient(grpo(0.0, 0.0)))
    assert gradient_of(capsys, "--world", "xor", "--estimator", "mine.py:narrow").equal(
        xor_gradient(grpo(0.1, 0.1))
    )


def test_an_objective_is_differentiated_and_its_other_arguments_are_parameters(capsys):
    mdp, old = world_of("mine.yaml")
    found = gradient_of(capsys, "--world", "mine.yaml", "--estimator", "mine.py:mine")
    torch.testing.assert_close(found, policy_gradient(mdp, old), **EXACT)
    (entry,) = answer(
        capsys, "gradient", "--world", "mine.yaml", "--estimator", "mine.py:mine", "--set", "power=2",
        "--group-size", "2",
    )["estimators"]  # fmt: skip
    assert entry["estimator"] == "mine.py:mine(power=2)" and entry["method"] == "groups"
    # Squared rewards are another objective: half of 1/2 is lost.
    assert entry["bias"] > VISIBLE / 10


def test_every_command_takes_what_is_ones_own(capsys):
    own = ("--world", "mine.py:build", "--estimator", "mine.py:narrow", "--group-size", "2")
    for command in ("gradient", "bias", "moments", "decompose", "bounds"):
        found = answer(capsys, command, *own)
        assert [entry["estimator"] for entry in found["estimators"]] == ["mine.py:narrow"]
        assert found["world"]["name"] == "mine.py:build"


@pytest.mark.parametrize("name", ["build", "started", "WORLD"])
def test_a_world_in_python(name):
    mdp, old = world_of(f"mine.py:{name}")
    if name == "started":
        assert old.equal(torch.tensor([[0.5, 0.0], [0.0, 0.25], [0.0, 0.0]], dtype=torch.float64))
    else:
        assert old.equal(graded(mdp) if name == "build" else first_token(0.7)(mdp))
    assert mdp.horizon == 2 and mdp.num_rows == (1 if name == "WORLD" else 3)


def test_a_prefix_tree_in_yaml_is_the_one_in_python():
    mdp, old = world_of("mine.yaml")
    table = {(0, 1, 2): 1.0, (1, 0, 2): 0.5, (0, 0, 0): 0.1}
    same = TokenMDP.prefix_tree(vocab_size=3, horizon=3, reward=lambda y: table.get(y, 0.0), eos=2)
    assert mdp.responses == same.responses and old.equal(graded(same))
    assert policy_gradient(mdp, old).equal(policy_gradient(same, old))


def test_the_world_that_the_readme_shows_is_one(folder, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    mdp, _ = world_of_file(written(folder, shown))
    rewards = {(0, 1, 2): 1.0, (1, 0, 2): 0.5}
    assert [rewards.get(y, 0.0) for y in mdp.responses] == mdp.graph.reward[mdp.graph.paths.outcome].tolist()


def written(folder, text: str):
    path = folder / "world.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_rewards_as_a_list_with_a_start_that_masks_a_token(folder):
    text = "{kind: prefix_tree, vocab_size: 2, horizon: 1, reward: [1e-3, 2], theta: [[0, -.inf]]}"
    mdp, old = world_of_file(written(folder, text))
    assert old.tolist() == [[0.0, -math.inf]] and expected_return(mdp, old) == 1e-3


def test_an_automaton_in_yaml(folder):
    text = """
        kind: automaton
        vocab_size: 2
        horizon: 3
        eos: 1
        transition: [[0, 1], [1, 0]]
        reward: {0: 0.25, 0 2: 1}
        otherwise: 0.5
        rows: [0, 0]
        start: 1
    """
    mdp, old = world_of_file(written(folder, text))

    def reward(state: int, length: int) -> float:
        return (1.0 if length == 2 else 0.25) if state == 0 else 0.5

    same = TokenMDP.automaton([[0, 1], [1, 0]], 2, 3, reward, start=1, rows=[0, 0], eos=1)
    assert policy_gradient(mdp, old).equal(policy_gradient(same, old)) and mdp.num_rows == 1
    assert float(policy_gradient(mdp, old).norm()) > 0


def test_a_mixture_in_yaml(folder):
    text = """
        kind: mixture
        share_rows: true
        prompts:
        - {weight: 0.25, kind: prefix_tree, vocab_size: 2, horizon: 2, reward: [0, 1, 1, 0]}
        - {weight: 0.75, kind: prefix_tree, vocab_size: 2, horizon: 2, reward: {1 1: 1}}
    """
    mdp, old = world_of_file(written(folder, text))
    trees = [
        TokenMDP.prefix_tree(vocab_size=2, horizon=2, reward=r) for r in ([0.0, 1, 1, 0], [0.0, 0, 0, 1])
    ]
    same = TokenMDP.mixture(trees, [0.25, 0.75], share_rows=True)
    assert policy_gradient(mdp, old).equal(policy_gradient(same, old)) and len(mdp.prompts) == 2


FLAT = "kind: prefix_tree, vocab_size: 2, horizon: 1"
"""A prompt of one token, but for its reward."""


def test_prompts_without_weights_are_as_likely_as_each_other_and_need_no_kind(folder):
    text = f"{{share_rows: true, prompts: [{{{FLAT}, reward: [0, 3]}}, {{{FLAT}, reward: [1, 0]}}]}}"
    mdp, old = world_of_file(written(folder, text))
    assert [weight for weight, _ in mdp.prompts] == [0.5, 0.5] and mdp.num_rows == 1
    torch.testing.assert_close(expected_return(mdp, torch.zeros(1, 2)), 1.0, **EXACT)
    assert old.equal(graded(mdp))


def test_prompts_with_rows_of_their_own_may_each_have_a_start(folder):
    prompts = f"[{{{FLAT}, reward: [0, 3], theta: [[0, 1]]}}, {{{FLAT}, reward: [1, 0], theta: [[2, 3]]}}]"
    mdp, old = world_of_file(written(folder, f"{{share_rows: false, prompts: {prompts}}}"))
    assert mdp.num_rows == 2 and old.tolist() == [[0.0, 1.0], [2.0, 3.0]]


def mixed(first: str, second: str, **fields: str) -> dict[str, str]:
    prompts = f"[{{{FLAT}, reward: [0, 1]{first}}}, {{{FLAT}, reward: [1, 0]{second}}}]"
    return {"share_rows": "true", "prompts": prompts, **fields}


TREE = {"kind": "prefix_tree", "vocab_size": "2", "horizon": "1", "reward": "[0, 1]"}
LINE = {"kind": "automaton", "vocab_size": "2", "horizon": "1", "reward": "[0]", "transition": "[[0, 0]]"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**TREE, "horzon": "1"}, "has no field 'horzon'; the nearest is 'horizon'"),
        ({**TREE, "kind": "prefx_tree"}, "has no kind 'prefx_tree'; the nearest is 'prefix_tree'"),
        ({**TREE, "transition": "[[0]]"}, "has no field 'transition'; the nearest is"),
        ({**TREE, "horizon": "1.5"}, "horizon = 1.5 (float) is not int"),
        ({**TREE, "horizon": "true"}, "horizon = True (bool) is not int"),
        ({**TREE, "reward": "[0, one]"}, "reward = 'one' is not a number"),
        ({**TREE, "reward": "[0, 1, 1]"}, "reward has shape (3,); 2 numbers are needed"),
        ({**TREE, "reward": "[[0], [0, 1]]"}, "reward has rows of unequal length"),
        ({**TREE, "reward": "{0: .inf}"}, "reward((0,)) = inf is not finite"),
        ({**TREE, "reward": "{2: 1}"}, "reward of '2' has no token '2'; the nearest is"),
        ({**TREE, "reward": "{0 0: 1}"}, "reward names '0 0', which is no response: each has 1 tokens"),
        ({**TREE, "reward": "{0: 1, '0': 2}"}, "reward of '0' is given twice"),
        ({**TREE, "tokens": "[a, b]"}, "give either vocab_size, or tokens"),
        ({**TREE, "eos": "2"}, "eos has no token '2'"),
        ({**TREE, "theta": "[[0, 0, 0]]"}, "theta has shape (1, 3); this world needs (S, V) = (1, 2)"),
        ({**TREE, "reward": "{0: 1}", "otherwise": "x"}, "otherwise = 'x' is not a number"),
        ({"vocab_size": "2"}, "has no kind; begin with a line like `kind: prefix_tree`"),
        ({key: value for key, value in TREE.items() if key != "reward"}, "has no reward; it must say"),
        ({**LINE, "transition": "3"}, "transition has shape (); it must be [Q, V]"),
        ({**LINE, "transition": "3", "reward": "{0: 1}"}, "transition has shape (); it must be [Q, V]"),
        ({**LINE, "reward": "{1: 1}"}, "reward names '1'; write a state in 0..0, or a state and a length"),
        ({**LINE, "reward": "{0 2: 1}"}, "reward names '0 2'; write a state in 0..0"),
        ({**LINE, "reward": "{x: 1}"}, "reward names 'x'; write a state in 0..0"),
        ({**LINE, "rows": "states"}, "rows = 'states': choose 'state', 'time_state'"),
        ({"kind": "mixture", "prompts": "3", "share_rows": "true"}, "prompts = 3 is not a list of worlds"),
        ({"prompts": "[]", "share_rows": "true"}, "line 1: prompts = [] is not a list of worlds"),
        ({"prompts": "[3]", "share_rows": "true"}, "prompt 0 has no kind; begin with a line like"),
        (mixed(", weight: 0.5", ""), "prompt 1 has no weight; it must say weight: ..."),
        (mixed(", weight: 1", ", weight: 1"), "weights = [1.0, 1.0] for 2 prompts: give one positive weight"),
        (mixed(", weight: half", ""), "prompt 0, line 2: weight = 'half' is not a number"),
        (mixed("", "", share_rows="both"), "line 1: share_rows = 'both' (str) is not bool"),
        (mixed("", "", weights="[0.5, 0.5]"), "line 3 has no field 'weights'; the nearest is 'prompts'"),
        (mixed("", ", theta: [[0, 1]]"), "prompt 1 has a theta of its own, and they share one table: give"),
        (
            mixed("", ", theta: [[0, 1]]", share_rows="false"),
            "prompt 1 has a theta of its own, and prompt 0 has none: give theta once, beside prompts, or",
        ),
        (
            mixed(", theta: [[0, 1]]", ", theta: [[0, 1]]", share_rows="false", theta="[[0, 0], [0, 0]]"),
            "line 3: theta is given here and in the prompts; keep one of them",
        ),
        (
            {
                "prompts": "[{kind: prefix_tree, horizon: 1, reward: [0, 1], tokens: [a, b]}, {prompts: "
                "[{kind: prefix_tree, horizon: 1, reward: [0, 1], tokens: [b, a]}], share_rows: true}]",
                "share_rows": "true",
            },
            "prompts with tokens ['a', 'b'] and ['b', 'a']: token 0 must be the same one in every prompt",
        ),
        (
            {"kind": "mixture", "prompts": "[{kind: automaton, wight: 1}]", "share_rows": "true"},
            "prompt 0, line 2 has no field 'wight'; the nearest is 'weight'",
        ),
    ],
    ids=str,
)
def test_a_world_that_is_misspelt_is_refused_by_file_and_field(folder, capsys, fields, message):
    written(folder, "\n".join(f"{name}: {value}" for name, value in fields.items()))
    said = refusal(capsys, "gradient", "--world", "world.yaml")
    assert said.startswith("world.yaml") and message in said


def test_yaml_that_is_none_and_entries_given_twice_are_refused(folder, capsys):
    written(folder, "kind: [prefix_tree")
    assert "world.yaml is not YAML" in refusal(capsys, "gradient", "--world", "world.yaml")
    written(folder, "{kind: prefix_tree, kind: automaton}")
    assert "'kind' is given twice" in refusal(capsys, "gradient", "--world", "world.yaml")
    written(folder, "!!python/object/apply:os.system ['touch ran']")
    assert "world.yaml is not YAML" in refusal(capsys, "gradient", "--world", "world.yaml")
    assert not (folder / "ran").exists()


def test_what_a_module_prints_does_not_reach_stdout(folder, capsys):
    said = 'print("a module may say what it likes")\n'
    (folder / "loud.py").write_text(said + (folder / "mine.py").read_text(encoding="utf-8"), encoding="utf-8")
    assert run("gradient", "--world", "loud.py:build", "--json") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("{") and "a module may say what it likes" in printed.err
