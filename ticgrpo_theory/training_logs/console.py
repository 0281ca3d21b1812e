"""verl's console: lines `step:N - key:value - ...`, between whatever else a training run prints.

A log is read as far as it goes. Colours, prefixes of Ray, progress bars on the same line and lines printed
twice do no harm; what is damaged, unknown or missing is named in `Logs.left_out`. Where the step does not
increase, another run begins: several runs in one file, or one that was resumed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ticgrpo_theory.training_logs.printed_config import settings_in
from ticgrpo_theory.training_logs.runs import METRICS, Logs, Run

ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
RAY = re.compile(r"^\s*(\([^()]*pid=\d+[^()]*\))\s?")
REPEATED = re.compile(r"\s*\[repeated \d+x across cluster\].*$")
STEP = re.compile(r"(?<![\w/.\-])step:(\d+)(?= - |\s*$)")
WRAPPED = re.compile(r"^(?:np\.\w+|tensor)\((.*?)(?:,.*)?\)$")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
VALIDATION = re.compile(r"^val(?:-core)?/.*(?:test_score|acc|reward|score)\b.*$")
SILENT = re.compile(
    r"^(?:timing_s|timing_per_token_ms|perf|global_seqlen|critic|actor|prompt_length|response_length"
    r"|response|training|rollout_corr|num_turns|tool_call_counts|val|val-core|val-aux)/"
)
"""Beginnings of verl's own keys: kept under their names without a word."""


@dataclass
class _Part:
    """The steps between two points where counting starts again."""

    line: int
    settings: Mapping[str, Any]
    steps: dict[int, dict[str, float]] = field(default_factory=dict)


def read_console(path: Path, rename: Mapping[str, str] | None = None) -> Logs:
    """The runs in one console log; `rename` maps keys of the log to names of METRICS."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give the console output of a verl run")
    return parse_console(path.read_bytes().decode("utf-8", errors="replace"), path.stem, rename)


def parse_console(text: str, name: str, rename: Mapping[str, str] | None = None) -> Logs:
    """The runs in the text of a console log, named `name`, `name#2`, ..."""
    if not text.strip():
        raise ValueError(
            f"{name} is empty; give the console output of a verl run, for instance `... | tee run.log`"
        )
    unknown = sorted(set((rename or {}).values()) - set(METRICS))
    if unknown:
        raise ValueError(f"rename gives {unknown[0]!r}, which is none of {', '.join(METRICS)}")
    lines = [_Line.of(raw) for raw in re.split(r"\r\n|\n|\r", text)]
    left_out: list[str] = []
    printed = settings_in([(line.who, line.text) for line in lines], left_out)
    parts: list[_Part] = []
    settings: Mapping[str, Any] = {}
    last = max((i for i, line in enumerate(lines) if line.text.strip()), default=0)
    for i, line in enumerate(lines):
        settings = printed.get(i, settings)
        if line.step is None:
            continue
        cut = i == last and not text.endswith(("\n", "\r"))
        values = _values(line, cut, i + 1, left_out)
        if parts and line.step == max(parts[-1].steps) and values == parts[-1].steps[line.step]:
            continue  # Ray prints some lines twice
        if not parts or line.step <= max(parts[-1].steps):
            parts.append(_Part(i + 1, settings))
        parts[-1].steps[line.step] = values
    if not any(values for part in parts for values in part.steps.values()):
        raise ValueError(
            f"{name} holds no line `step:N - key:value - ...` in {len(lines):,} lines; keep 'console' in "
            f"trainer.logger, and give the output of the driver, not of a worker"
        )
    if len(parts) > 1:
        begins = ", ".join(f"line {part.line} at step {min(part.steps)}" for part in parts)
        left_out.append(f"{name}: {len(parts)} runs in one file, read one by one; they begin in {begins}")
    names = [name if i == 0 else f"{name}#{i + 1}" for i in range(len(parts))]
    runs = [_run(part, n, rename or {}, left_out) for part, n in zip(parts, names, strict=True)]
    return Logs(tuple(runs), tuple(dict.fromkeys(left_out)))


@dataclass(frozen=True)
class _Line:
    who: str
    text: str
    step: int | None
    items: str

    @classmethod
    def of(cls, raw: str) -> "_Line":
        text = REPEATED.sub("", ANSI.sub("", raw))
        ray = RAY.match(text)
        who = ray.group(1) if ray else ""
        text = text[ray.end() :] if ray else text
        found = STEP.search(text)
        return cls(
            who, text, int(found.group(1)) if found else None, text[found.end() :].strip() if found else ""
        )


def _values(line: _Line, cut: bool, number: int, left_out: list[str]) -> dict[str, float]:
    """The numbers of one step; where the file breaks off within it, all but the last, which may be half."""
    items = [item.strip() for item in line.items.removeprefix("- ").split(" - ") if item.strip(" -")]
    if cut:
        left_out.append(
            f"line {number}: the file breaks off within step {line.step}; "
            f"its last entry {items[-1] if items else 'step'!r} is left out, as it may be half of itself"
        )
        items = items[:-1]
    values: dict[str, float] = {}
    for item in items:
        key, colon, value = item.rpartition(":")
        wrapped = WRAPPED.match(value)
        value = wrapped.group(1) if wrapped else value
        if colon and key and NUMBER.fullmatch(value):
            values[key] = float(value)
        else:
            left_out.append(f"line {number}: {item!r} of step {line.step} is no number and is left out")
    return values


def _run(part: _Part, name: str, rename: Mapping[str, str], left_out: list[str]) -> Run:
    frame = pd.DataFrame.from_dict(part.steps, orient="index").sort_index()
    frame.index.name = "step"
    named = dict(rename)
    for metric, found in METRICS.items():
        present = [key for key in found.keys if key in frame]
        if present and metric not in rename.values():
            named[present[0]] = metric
    validation = [key for key in frame if VALIDATION.match(str(key))]
    if len(validation) == 1 and "validation" not in rename.values():
        named[validation[0]] = "validation"
    elif len(validation) > 1:
        left_out.append(
            f"{name}: {len(validation)} validation metrics, none of which is taken for `validation`; "
            f"rename one of {', '.join(validation[:4])}"
        )
    unknown = [str(key) for key in frame if key not in named and not SILENT.match(str(key))]
    if unknown:
        left_out.append(f"{name}: unknown metrics, kept under their own names: {', '.join(unknown)}")
    trained = [step for step in frame.index if step > 0]
    gone = sorted(set(range(min(trained, default=0), max(trained, default=0) + 1)) - set(trained) - {0})
    if gone:
        shown = ", ".join(map(str, gone[:6])) + (", ..." if len(gone) > 6 else "")
        left_out.append(f"{name}: {len(gone)} steps are missing ({shown})")
    return Run(name, frame.rename(columns=named), settings=part.settings)
