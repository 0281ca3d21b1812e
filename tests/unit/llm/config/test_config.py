"""Configurations: every field can be set, unknown and contradictory ones are refused in one line."""

import dataclasses
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm.config import config, sections, typed_values
from llm.config.config import Config, load
from tests.thinned import more

CONFIGS = sorted((Path(config.__file__).parents[1] / "configs").glob("*.yaml"))
NAMES = typed_values.dotted(Config)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return file


def test_the_defaults_are_a_valid_configuration_and_come_back_from_their_own_yaml(tmp_path: Path) -> None:
    assert load(written(tmp_path, config.dump(Config()))) == Config() == load(None)


OTHER_VALUES = {
    "data.levels": "3",
    "evaluation.source": "arithmetic",
    "evaluation.temperature": "0.5",
    "evaluation.k": "1",
    "estimator.eps_low": "0.5",
    "kl.reference": None,
    "kl.beta": None,
    "updates.mini_batch": "32",
    "updates.micro_batch_tokens": "20000",
    "updates.inner_steps": "8",
    "estimator.rate": None,
    "estimator.lower": None,
    "estimator.upper": None,
    "estimator.name": "grpo",
    "optimizer.betas": "0.8 0.95",
    "evaluation.every": None,
    "evaluation.split": "held_out",
    "seed": "7",
    "data.seed": "7",
}


@pytest.mark.parametrize("name", [name for name in NAMES if OTHER_VALUES.get(name, "") is not None])
def test_every_field_is_overridden_from_the_command_line(name: str) -> None:
    """Fields that need a second one are in `test_fields_that_need_each_other_are_set_together`."""
    before = at(Config(), name)
    given = OTHER_VALUES.get(name) or another(name, before)
    after = at(load(None, [f"--{name.replace('_', '-')}", *given.split()]), name)
    assert after != before or given == str(before)
    assert str(after) in (given, f"({given.replace(' ', ', ')})", f"({given},)", f"{float_or_text(given)}")


def at(cfg: Config, name: str) -> object:
    found: object = cfg
    for part in name.split("."):
        found = getattr(found, part)
    return found


def another(name: str, before: object) -> str:
    """A value that differs from the default and contradicts nothing."""
    section, _, field = name.rpartition(".")
    cls = typing.get_type_hints(Config)[section] if section else Config
    hint = typing.get_type_hints(cls)[field]
    options = [o for o in typing.get_args(hint) if o is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        return str(next(option for option in options if option != before))
    kind = options[0] if options else hint
    if typing.get_origin(kind) is typing.Literal:
        return str(typing.get_args(kind)[0])
    if kind is bool:
        return str(not before)
    if kind in (str, Path):
        return "other"
    return str(kind(before or 1) + 128)  # type: ignore[arg-type]


def float_or_text(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def test_fields_that_need_each_other_are_set_together() -> None:
    arguments = (
        "--kl.beta 0.1 --kl.reference initial --evaluation.every 5 --evaluation.source arithmetic "
        "--estimator.name gmpo --estimator.lower 0.3 --estimator.upper 0.5"
    )
    cfg = load(None, arguments.split())
    assert (cfg.kl.beta, cfg.kl.reference, cfg.evaluation.every) == (0.1, "initial", 5)
    assert (cfg.estimator.lower, cfg.estimator.upper) == (0.3, 0.5)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "optimizer: {lr: 1e-5, weight_decay: 0}\nseed: 3\n")
    cfg = load(file, ["--optimizer.lr", "2e-5"])
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, cfg.seed, cfg.outer_steps) == (2e-5, 0.0, 3, 144)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("optimiser: {lr: 1}", "unknown field optimiser; did you mean optimizer?"),
        ("optimizer: {lrr: 1}", "unknown field optimizer.lrr; did you mean optimizer.lr?"),
        ("kl: {zzzzz: 1}", "unknown field kl.zzzzz; there are kl.beta, kl.reference"),
        ("optimizer: 3", "optimizer is a section of fields, not 3"),
        ("optimizer: {lr: fast}", "run.yaml, line 1: optimizer.lr = 'fast' is not a number"),
        ("optimizer: {lr: true}", "optimizer.lr = True (bool) is not a number"),
        ("optimizer: {lr: .nan}", "optimizer.lr = nan is not a value"),
        ("optimizer: {betas: [0.9]}", "optimizer.betas = [0.9] has 1 values; it takes 2"),
        ("optimizer: {betas: 0.9}", "optimizer.betas = 0.9 has 1 values; it takes 2"),
        ("seed: 1.5", "seed = 1.5 (float) is not int"),
        ("seed: true", "seed = True (bool) is not int"),
        ("model: {gradient_checkpointing: 1}", "gradient_checkpointing = 1 (int) is not bool"),
        ("model: {dtype: float16}", "model.dtype = 'float16': choose from 'bfloat16', 'float32'"),
        ("model: {path: null}", "model.path = None (NoneType) is not str"),
        ("estimator: {ddof: true}", "estimator.ddof = True (bool) is none of"),
        ("- 1", "holds list, not a mapping of sections to fields"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        load(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "run.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--optimizer.lrr 1", "unknown field --optimizer.lrr; did you mean --optimizer.lr?"),
        ("--lr 1", "unknown field --lr; did you mean --optimizer.lr?"),
        ("--group-size=4", "unknown field --group_size; did you mean --sampling.group_size?"),
        ("--optimizer.lr fast", "Error parsing --optimizer.lr: could not convert string to float: 'fast'"),
        ("--model.dtype float16", "invalid choice 'float16' for argument '--model.dtype'"),
        ("--seed", "Missing value for argument '--seed'"),
        ("stray", "Unrecognized options: stray"),
        ("--optimizer.lr -1", "optimizer.lr = -1.0: it must be above 0 and finite"),
        ("--optimizer.lr nan", "optimizer.lr = nan: it must be above 0 and finite"),
    ],
)
def test_what_a_command_line_may_not_say(arguments: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        load(None, arguments.split())
    assert "\n" not in str(caught.value)
    assert "│" not in str(caught.value)


CONTRADICTIONS = {
    "sampling: {temperature: 0}": "sampling.temperature = 0.0: it must be above 0",
    "sampling: {max_response_tokens: 0}": "sampling.max_response_tokens = 0: it must be at least 1",
    "optimizer: {clip_norm: .inf}": "optimizer.clip_norm = inf: it must be above 0 and finite",
    "optimizer: {betas: [0.9, 1.0]}": "optimizer.betas = (0.9, 1.0): both must lie in [0, 1)",
    "data: {levels: []}": "data.levels = (): give numbers of digits",
    "updates: {inner_steps: 3}": "updates.inner_steps = 3 does not divide sampling.prompts = 128",
    "updates: {mini_batch: 48}": "updates.mini_batch = 48, but 128 prompts in 4 disjoint steps make",
    "updates: {mini_batch: 32, batches: reused}": "every step uses the whole rollout of 128 prompts",
    "updates: {token_mean: batch}\nestimator: {name: grpo}": "the scale of grpo is not token_mean",
    "updates: {micro_batch_tokens: 19999}": "micro_batch_tokens = 19999 cannot hold one sequence",
    "sampling: {group_size: 1}\nestimator: {name: rloo}": "the advantage of rloo needs groups of at least 2",
    "sampling: {group_size: 1}\nestimator: {ddof: 1}": "the advantage of dapo needs groups of at least 2",
    "sampling: {group_size: 1}\ndynamic_sampling: {enabled: true}": "one reward has no variation",
    "estimator: {name: no_is, cap: 3}": "a dual clip extends a two-sided clip, and no_is has unclipped()",
    "estimator: {name: rloo, delta: 1}": "estimator.delta = 1.0: rloo has no such parameter; it takes none",
    "estimator: {name: rloo, ddof: 1}": "the advantage of rloo is leave_one_out() and has no standard devi",
    "estimator: {name: grpo, eps_low: -2}": "eps_low = -2.0, eps_high = 0.2",
    "estimator: {name: grop}": "unknown estimator 'grop'; nearest names: grpo",
    "estimator: {name: 'nowhere:x'}": "estimator.name = nowhere:x cannot be imported",
    "estimator: {name: 'math:pi'}": "estimator.name = math:pi is float; it must be an estimator",
    "kl: {beta: 0.1}": "kl.beta = 0.1 without kl.reference",
    "kl: {reference: initial}": "kl.reference = initial with kl.beta = 0",
    "reward: {overlong_buffer: 18001}": "reward.overlong_buffer = 18001 is longer than",
    "evaluation: {every: 5}": "evaluation.every = 5 without evaluation.source",
    "evaluation: {k: 4}": "evaluation.k = 4 at temperature 0 repeats one response",
}


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_contradictions_are_refused_with_the_way_out(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(CONTRADICTIONS[text])) as caught:
        load(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_mini_batches_are_prompts_over_K_or_the_whole_rollout() -> None:
    assert load(None).mini_batch == 32
    assert load(None, ["--updates.batches", "reused"]).mini_batch == 128
    assert load(None, ["--updates.mini-batch", "32"]).mini_batch == 32


@given(st.integers(1, 40), st.integers(1, 40))
def test_disjoint_mini_batches_use_every_prompt_once(mini_batch: int, K: int) -> None:
    cfg = load(None)
    sampling = dataclasses.replace(cfg.sampling, prompts=mini_batch * K)
    cfg = dataclasses.replace(cfg, sampling=sampling, updates=dataclasses.replace(cfg.updates, inner_steps=K))
    assert cfg.mini_batch == mini_batch


@more
def test_the_command_ends_bad_input_in_one_line_and_exit_code_one(tmp_path: Path) -> None:
    failed = subprocess.run(
        [sys.executable, "-m", "llm.config", "--config", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1


def test_the_command_prints_what_a_run_would_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for config_argument in (["--config", "{}"], ["--config={}"]):
        file = str(written(tmp_path, "seed: 5"))
        arguments = [argument.format(file) for argument in config_argument]
        monkeypatch.setattr(sys, "argv", ["config", *arguments, "--optimizer.lr", "1e-5"])
        config.main()
        shown = yaml.safe_load(capsys.readouterr().out)
        assert (shown["seed"], shown["optimizer"]["lr"]) == (5, 1e-5)
    monkeypatch.setattr(sys, "argv", ["config", "--config"])
    with pytest.raises(SystemExit, match="error: --config lacks its file"):
        config.main()
    monkeypatch.setattr(sys, "argv", ["config", "--help"])
    with pytest.raises(SystemExit) as stopped:
        config.main()
    assert not stopped.value.code
    assert "--optimizer.lr FLOAT" in capsys.readouterr().out


def test_overrides_without_tyro_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert load(None) == Config()
    with pytest.raises(ValueError, match=r"takes tyro, which is not installed: pip install"):
        load(None, ["--seed", "1"])


def test_every_field_has_a_docstring() -> None:
    """tyro shows them; a field without one would be silent in --help."""
    source = Path(sections.__file__).read_text()
    for cls in [Config, *(t for t in typing.get_type_hints(Config).values() if dataclasses.is_dataclass(t))]:
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            assert re.search(rf'^    {field.name}: [^\n]*\n    """[^\n]+"""$', source, re.M), field.name


def test_there_is_a_file_for_every_published_protocol() -> None:
    assert {file.stem for file in CONFIGS} == {
        "dapo",
        "demo_cpu",
        "paper_figure1_logs",
        "paper_figure1_text",
        "paper_figure2_logs",
        "paper_figure2_text",
    }


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_published_configuration_loads_and_every_value_has_its_source(file: Path) -> None:
    load(file)
    source = re.compile(r"#.*(arXiv:\d|authors' training log|verl|data set card|own choice: )")
    for line in file.read_text().splitlines():
        if re.match(r"\s*[\w-]+:\s*[^\s#]", line) and not re.search(source, line):
            raise AssertionError(f"{file.name}: no source beside {line!r}")
