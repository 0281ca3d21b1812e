"""Results on disk: `<name>.parquet` holds sorted rows, nothing else; `<name>.json` says where they come from.

The same rows have the same bytes, in whatever order they were made; where a file has them already but for
the rounding of another machine, it is left as it is. The sidecar holds configuration,
versions, commit, seconds and hardware, which are never compared, and the SHA-256 of the rows, so that files
of two runs are never read as a pair. A result is refused by its configuration or by the RESULTS_VERSION of
its experiment, which is raised by hand when its numbers change; never by commit. Long runs keep their
progress in `cells.py`.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ticgrpo_theory.experiment.atomic import replace_files
from ticgrpo_theory.experiment.own_files import Files, edited, said_of

ARROW = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}

LIBRARIES = ("numpy", "torch", "numba", "scipy", "pandas", "pyarrow")

ROUNDING = 1e-13
"""Relative to max(1, |value|): what the same sums in another order move, on another processor say."""

UNRECORDED = {"recorded": False}
"""`field(metadata=UNRECORDED)`: a field of a Config that cannot change the rows (folder, workers)."""


def write(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    config: Any,
    results_version: int,
    seconds: float,
    folder: Path | str = "results",
    may_be_missing: Sequence[str] = (),
    sources: Files | None = None,
) -> Path:
    """Write `<folder>/<name>.parquet` and its sidecar, and return the path of the rows.

    Killed at any moment, it leaves the old pair, the new pair, or one that `read` refuses. `config` is a
    dataclass or a mapping; `seconds` is what the rows took. None and NaN are refused except in the columns
    `may_be_missing`; -0.0 is stored as 0.0. Files of the same configuration and version whose numbers differ
    by no more than ROUNDING are left as they are: commit and seconds stay those of the run that made them.
    `sources` are files of a user's own that the rows come from; where they differ, all is written.
    """
    rows_file, sidecar = pair(name, folder)
    data = _parquet(plain_rows(rows, may_be_missing))
    identity = {"config": config, "results_version": results_version, "folder": folder, "sources": sources}
    if refusal(name, **identity) is None and alike(
        pq.read_table(io.BytesIO(rows_file.read_bytes())), pq.read_table(io.BytesIO(data))
    ):
        return rows_file
    kept = plain_config(config)
    about = {
        "name": name,
        "config": kept,
        "config_hash": digest(kept),
        "results_version": results_version,
        "rows": len(rows),
        "rows_sha256": hashlib.sha256(data).hexdigest(),
        "seconds": round(seconds, 3),
        **({} if sources is None else {"sources": dict(sources)}),
        "commit": _commit(),
        "versions": {"python": platform.python_version()}
        | {x: importlib.metadata.version(x) for x in LIBRARIES},
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()},
    }
    replace_files({rows_file: data, sidecar: (json.dumps(about, indent=1) + "\n").encode()})
    return rows_file


def read(
    name: str,
    *,
    config: Any = None,
    results_version: int | None = None,
    folder: Path | str = "results",
    command: str | None = None,
) -> pd.DataFrame:
    """The rows of `<folder>/<name>.parquet`, or a ValueError that says why not and which command makes them.

    Refused are absent, unreadable and half-written files and, where `config` or `results_version` is given,
    the rows of another one. `command` is by default `python experiments/<name>.py`.
    """
    reason = refusal(name, config=config, results_version=results_version, folder=folder)
    if reason:
        raise ValueError(f"{reason}; make it with `{command or f'python experiments/{name}.py'}`")
    return pq.read_table(io.BytesIO(pair(name, folder)[0].read_bytes())).to_pandas()


def refusal(
    name: str,
    *,
    config: Any,
    results_version: int | None,
    folder: Path | str,
    sources: Files | None = None,
) -> str | None:
    """Why `read` would refuse these files, or why they are not of these `sources`; None if neither."""
    rows_file, sidecar = pair(name, folder)
    for path in (rows_file, sidecar):
        if not path.is_file():
            return f"{path} does not exist"
    try:
        about = json.loads(sidecar.read_bytes())
        sha256, version, kept, kept_hash = (
            about[key] for key in ("rows_sha256", "results_version", "config", "config_hash")
        )
    except (ValueError, KeyError, TypeError) as error:
        return f"{sidecar} is not the sidecar of a result, cut off or edited ({error!r})"
    if hashlib.sha256(rows_file.read_bytes()).hexdigest() != sha256:
        return f"{rows_file} is not what {sidecar.name} describes: damaged, or of a run that was killed"
    if results_version not in (None, version):
        return f"{rows_file} has RESULTS_VERSION {version}, not {results_version}"
    if config is not None and digest(plain_config(config)) != kept_hash:
        return f"{rows_file} is of another configuration ({_differences(kept, plain_config(config))})"
    changed = [] if sources is None else edited(about.get("sources"), sources)
    if changed:
        return f"{rows_file} is from before {said_of(changed)} (--trust keeps its numbers)"
    return None


def alike(there: pa.Table, here: pa.Table) -> bool:
    """Whether all values are equal, finite floats up to ROUNDING max(1, |value|)."""
    if there.schema != here.schema or there.num_rows != here.num_rows:
        return False
    for name in there.column_names:
        if there.schema.field(name).type != pa.float64():
            if not there[name].equals(here[name]):
                return False
            continue
        x, y = there[name].to_numpy(), here[name].to_numpy()
        with np.errstate(invalid="ignore"):  # infinity - infinity
            near = np.abs(x - y) <= ROUNDING * np.maximum(1.0, np.minimum(np.abs(x), np.abs(y)))
        if not np.all(near | (x == y) | (np.isnan(x) & np.isnan(y))):
            return False
    return True


def pair(name: str, folder: Path | str) -> tuple[Path, Path]:
    """The files of the rows and of the sidecar."""
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name!r} cannot name a result; use a path below the results folder, without '..'")
    files = Path(folder, f"{name}.parquet"), Path(folder, f"{name}.json")
    for path in files:
        if path.is_dir():
            raise ValueError(f"{path} is a folder, in the place of a file; move it, or write somewhere else")
    return files


def plain_rows(rows: Sequence[Mapping[str, Any]], may_be_missing: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with values of bool, int, float, str, and None for what is missing."""
    if not rows:
        raise ValueError("there are 0 rows; a result has at least one")
    columns = list(rows[0])
    unknown = sorted(set(may_be_missing) - set(columns))
    if unknown:
        raise ValueError(f"may_be_missing names {unknown}, which are not among the columns {columns}")
    plain = []
    for i, row in enumerate(rows):
        if list(row) != columns:
            raise ValueError(
                f"row {i} has the columns {list(row)}, row 0 {columns}; give all rows the same, in order"
            )
        plain.append({column: _plain_value(value) for column, value in row.items()})
        for column, value in plain[-1].items():
            if value is None and column not in may_be_missing:
                raise ValueError(
                    f"column {column!r} of row {i} is {row[column]}, in {plain[-1]}; "
                    f"compute it, or list the column in may_be_missing"
                )
            if value is not None and (
                type(value) not in ARROW or (type(value) is int and abs(value) >= 2**63)
            ):
                raise ValueError(
                    f"column {column!r} of row {i} is {value!r} ({type(value).__name__}); "
                    f"a result holds bool, int below 2**63, float and str (of a tensor take .item())"
                )
    return plain


def plain_config(config: Any) -> dict[str, Any]:
    """The configuration as it comes back from JSON, without the fields marked UNRECORDED."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        recorded = [
            field.name for field in dataclasses.fields(config) if field.metadata.get("recorded", True)
        ]
        whole = dataclasses.asdict(config)
        config = {name: whole[name] for name in recorded}

    def refuse(value: Any) -> str:
        if isinstance(value, Path):
            return str(value)
        raise ValueError(
            f"the configuration holds {value!r} ({type(value).__name__}); "
            f"a configuration is made of numbers, strings, and tuples and mappings of them"
        )

    return json.loads(json.dumps(config, default=refuse))


def digest(value: Any) -> str:
    """SHA-256 of the value as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain_value(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        # Sorting takes -0.0 and 0.0 for equal and would leave them in the order in which they came.
        return None if value != value else value + 0.0
    return value


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Bytes that depend on the set of rows alone: sorted by every column, fixed options, no metadata."""
    arrays = {}
    for column in rows[0]:
        values = [row[column] for row in rows]
        kinds = {type(value) for value in values if value is not None} or {float}
        kind = float if kinds == {int, float} else next(iter(kinds))
        if kinds not in ({kind}, {int, float}):
            raise ValueError(
                f"column {column!r} mixes {sorted(k.__name__ for k in kinds)}; give it values of one type"
            )
        arrays[column] = pa.array([value if value is None else kind(value) for value in values], ARROW[kind])
    table = pa.table(arrays)
    table = table.sort_by([(column, "ascending") for column in table.column_names])
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        row_group_size=1 << 20,
    )
    return sink.getvalue()


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    absent = "absent"
    fields = [
        x for x in sorted({**there, **here}) if digest(there.get(x, absent)) != digest(here.get(x, absent))
    ]
    shown = [f"{x}: {there.get(x, absent)} in the file, {here.get(x, absent)} requested" for x in fields]
    return "; ".join(shown)


@functools.cache
def _commit() -> dict[str, Any] | None:
    """Commit of this checkout, and whether a tracked Python file differs from it; None outside a checkout."""
    here = Path(__file__)

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, check=False
        )

    # Installed as a wheel below another project's checkout, this file is not tracked there.
    if shutil.which("git") is None or git("ls-files", "--error-unmatch", here.name).returncode != 0:
        return None
    head = git("rev-parse", "--verify", "HEAD")
    if head.returncode != 0:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)*.py").stdout
    return {"hash": head.stdout.strip(), "changed": bool(changed)}
