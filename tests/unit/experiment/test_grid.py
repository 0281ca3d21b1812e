"""experiment/grid.py, typed_values.py and source.py: what a grid means, and what is refused."""

import sys
from pathlib import Path

import pytest

from experiments import bias_vs_K
from tests.unit.experiment.killed_sweeps import TOY
from ticgrpo_theory.experiment import grid as grids
from ticgrpo_theory.experiment.grid import fixed_values, from_yaml, make
from ticgrpo_theory.experiment.source import find, load
from ticgrpo_theory.experiment.yaml_fields import options

ROOT = Path(__file__).parents[3]

WRITTEN = f"""
experiment: {TOY}
fixed: {{name: word}}
grid:
  x: [1, 2]
  etas: [0.1, [0.1, 1e-3]]
"""


def test_a_yaml_file_is_one_config_for_each_combination_the_last_field_fastest(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(WRITTEN)
    made = make(*from_yaml(path))
    # By hand: 2 x 2 cells; a lone number is a tuple of one; YAML takes 1e-3 for text, Config for a number.
    assert made.configs() == [
        {"name": "word", "x": 1, "etas": (0.1,)},
        {"name": "word", "x": 1, "etas": (0.1, 0.001)},
        {"name": "word", "x": 2, "etas": (0.1,)},
        {"name": "word", "x": 2, "etas": (0.1, 0.001)},
    ]
    assert made.key(made.configs()[1]) == {"x": 1, "etas": [0.1, 0.001]}
    assert made.columns(made.configs()[1]) == {"swept_x": 1, "swept_etas": "0.1, 0.001"}


def test_the_command_line_says_the_same_as_the_file(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(WRITTEN)
    varied = options(["x=1,2", "etas=0.1,[0.1, 1e-3]"], "grid")
    fixed = fixed_values(load(find(TOY)), options(["name=word"], "set"))
    assert make(TOY, fixed, varied).configs() == make(*from_yaml(path)).configs()


def test_set_gives_all_values_of_a_tuple_and_one_of_any_other_field():
    experiment = load(find(TOY))
    for text in ("etas=0.1,0.2", "etas=[0.1, 0.2]"):
        assert fixed_values(experiment, options([text], "set")) == {"etas": [0.1, 0.2]}
    with pytest.raises(ValueError, match=r"--set x: takes one value, not 2; to vary it, use --grid x="):
        fixed_values(experiment, options(["x=1,2"], "set"))


def test_a_tuple_of_one_is_a_number_in_the_table():
    made = make(TOY, {"x": 1}, {"etas": [0.1, 1]})
    assert [made.columns(config) for config in made.configs()] == [{"swept_etas": 0.1}, {"swept_etas": 1.0}]


def test_the_identity_holds_the_defaults_so_that_a_changed_one_is_noticed():
    assert make(TOY, {"name": "a"}, {"x": [1, 2]}).identity() == {
        "experiment": "toy_sweep",
        "grid": {"x": [1, 2]},
        "fixed": {"etas": [0.5], "name": "a", "fail": "", "seconds": 0.0},
    }


@pytest.mark.parametrize(
    ("fixed", "grid", "message"),
    [
        ({}, {}, r"the grid is empty; vary at least one field, as in --grid"),
        ({}, {"x": []}, r"grid: x = \[\] is not a list of values; write x: \[...\]"),
        ({}, {"x": 3}, r"grid: x = 3 is not a list of values"),
        ({}, {"x": [1, 1]}, r"grid: x holds 1 twice; no cell is computed twice, drop one"),
        ({"x": 1}, {"etas": [0.1, [0.1]]}, r"grid: etas holds \(0.1,\) twice"),
        ({}, {"eta": [0.1]}, r"toy_sweep has no field 'eta'; the nearest is 'etas' \(it has x, etas, name"),
        ({"nam": "a"}, {"x": [1]}, r"toy_sweep has no field 'nam'; the nearest is 'name'"),
        ({"x": 1}, {"x": [1, 2]}, r"x is both fixed and in the grid; keep one of them"),
        ({}, {"x": [1.5]}, r"x = 1.5 \(float\) is not int"),
        ({}, {"x": [True]}, r"x = True \(bool\) is not int"),
        ({}, {"x": ["1"]}, r"x = '1' \(str\) is not int"),
        ({"x": 1}, {"etas": ["much"]}, r"etas = 'much' is not a number"),
        ({"x": 1}, {"etas": [float("nan")]}, r"etas = nan is not a value that could be found again"),
        (
            {"x": 1},
            {"name": [False, "on"]},
            r"""name = False \(bool\) is not str; quote it, as in '"False"'""",
        ),
        ({}, {"name": ["a"]}, r"toy_sweep: x has no default; give it with --set x="),
        ({}, {"x": [12, 13]}, r"the cell \{'x': 13\} is refused: x = 13: not on a Friday; give another"),
        (
            {},
            {"x": list(range(100_001))},
            r"the grid has 100,001 cells, more than MAX_CELLS = 100,000; split",
        ),
    ],
)
def test_what_is_no_grid_is_refused_with_value_limit_and_way_out(fixed, grid, message):
    with pytest.raises(ValueError, match=message):
        make(TOY, fixed, grid)


def test_what_cannot_change_the_rows_cannot_be_swept():
    for field in ("results", "list"):
        with pytest.raises(ValueError, match=rf"bias_vs_K has no field '{field}'; the nearest is"):
            make("bias_vs_K", {}, {field: ["a"]})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("grid: {x: [1]}", r"sweep.yaml names no experiment; begin with a line like `experiment: bias"),
        ("- 1", "names no experiment"),
        ("experiment: [a]", r"experiment = \['a'\] is not a name"),
        ("experiment: a\ngird: {x: [1]}", r"sweep.yaml, line 2 has no part 'gird'; the nearest is 'grid'"),
        ("experiment: a\ngrid: [x]", r"grid = \['x'\] is not a mapping; write `grid: \{field: ...\}`"),
        ("experiment: a\nfixed: 3", r"fixed = 3 is not a mapping"),
        (
            "experiment: a\ngrid: {x: [1], x: [2]}",
            r"sweep.yaml, line 2: 'x' is given twice, first in line 2; keep one",
        ),
        ("experiment: [", r"sweep.yaml is not YAML: while parsing"),
        ("experiment: !!python/object/apply:os.getcwd []", r"is not YAML: could not determine a constructor"),
        (b"\xff\xfe", r"sweep.yaml cannot be read"),
    ],
)
def test_what_is_no_sweep_in_yaml_is_refused(tmp_path, written, message):
    path = tmp_path / "sweep.yaml"
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    with pytest.raises(ValueError, match=message):
        from_yaml(path)
    with pytest.raises(ValueError, match=r"absent.yaml cannot be read .*No such file"):
        from_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["x"], r"--grid x: write --grid field=value, as in --grid etas=0.1"),
        (["x="], r"--grid x=: write"),
        (["=1"], r"--grid =1: write"),
        (["x=1", "x=2"], r"--grid x=2: x is given twice; give all its values at once"),
        (["x=[1"], r"--grid x=\[1 is not YAML"),
    ],
)
def test_what_is_no_option_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        options(given, "grid")


MINE = """
from dataclasses import dataclass
RESULTS_VERSION = 3
@dataclass(frozen=True)
class Config:
    x: int = 0
def rows(cfg: Config):
    return [{"y": cfg.x}]
def twice(cfg: Config):
    return [{"y": 2 * cfg.x}]
def bare(cfg):
    return []
def two(cfg: Config, more: int):
    return []
def number(cfg: int):
    return []
"""


def test_an_experiment_is_a_script_a_path_a_module_or_a_function_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "experiments").mkdir()
    for place in ("mine.py", "as_module.py", "experiments/local.py"):
        (tmp_path / place).write_text(MINE)
    for reference, label in [
        ("mine.py", "mine"),
        (f"{tmp_path}/mine.py:twice", "mine:twice"),
        ("as_module", "as_module"),
        ("as_module:twice", "as_module:twice"),
        ("local", "local"),
    ]:
        found = load(find(reference, tmp_path))
        assert (found.label, found.results_version) == (label, 3)
        assert found.rows(found.config(x=2)) == [{"y": 4 if "twice" in label else 2}]
    assert find("bias_vs_K", tmp_path).place == str(ROOT / "experiments" / "bias_vs_K.py")
    found = load(find("bias_vs_K", tmp_path))
    assert found.may_be_missing == bias_vs_K.MAY_BE_MISSING and found.check is not None


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("bias_vs_k", r"unknown experiment 'bias_vs_k'; nearest names: bias_vs_K.* give a script"),
        ("no.such.module", r"unknown experiment 'no.such.module'"),
        ("a b", r"unknown experiment 'a b'"),
        ("absent.py", r"absent.py does not exist; give the path of a Python file with a rows"),
        ("mine.py:absent", r"mine.py has no function 'absent'; name it as in mine.py:rows"),
        ("mine.py:bare", r"bare\(cfg\) does not take one dataclass; write it as `def bare\(cfg: Config\)`"),
        ("mine.py:two", r"two\(.*\) does not take one dataclass"),
        ("mine.py:number", r"number\(cfg: int\) does not take one dataclass"),
        ("unversioned.py", r"unversioned.py has no whole number RESULTS_VERSION, but None; set it to 1"),
    ],
)
def test_what_is_no_experiment_is_refused(tmp_path, monkeypatch, reference, message):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "unversioned.py").write_text(MINE.replace("RESULTS_VERSION", "VERSION"))
    with pytest.raises(ValueError, match=message):
        load(find(reference, tmp_path))


def test_the_path_of_an_experiment_is_seen_from_the_yaml_file(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "mine.py").write_text(MINE)
    path = tmp_path / "deep" / "sweep.yaml"
    path.write_text("experiment: ../mine.py:twice\ngrid: {x: [1]}")
    monkeypatch.chdir("/")
    assert make(*from_yaml(path)).experiment.label == "mine:twice"


def test_every_sweep_that_is_shipped_is_a_grid():
    shipped = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))
    assert shipped
    for path in shipped:
        assert len(make(*from_yaml(path)).configs()) > 1
    assert set(grids.PARTS) == {"experiment", "fixed", "grid"}
