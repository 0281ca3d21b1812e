"""Machine code on disk is forgotten as soon as anything that was compiled into it changes, in any file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thinned import more
from ticgrpo_theory.worlds.compiling import inner, kernel

INNER = """
from ticgrpo_theory.worlds.compiling import kernel

STEP = {step}

@kernel
def inner(x):
    return x + {added}
"""
OUTER = """
from inner import STEP, inner
from ticgrpo_theory.worlds.compiling import kernel

@kernel
def outer(x):
    return STEP * inner(x)

print(outer(1), sum(outer.stats.cache_hits.values()))
"""


def printed(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    program = [sys.executable, folder / "outer.py"]
    return subprocess.run(
        program, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout.strip()


@more
def test_a_kernel_is_compiled_anew_when_one_that_it_calls_changes_in_another_file(tmp_path):
    (tmp_path / "outer.py").write_text(OUTER)
    for added, step, found in ((1, 1, "2 0"), (1, 1, "2 1"), (2, 1, "3 0"), (2, 5, "15 0"), (2, 5, "15 1")):
        (tmp_path / "inner.py").write_text(INNER.format(added=added, step=step))
        assert printed(tmp_path) == found


@inner
def doubled(x):
    return 2 * x


@kernel
def fourfold(x):
    return 2 * doubled(x)


def test_what_kernels_alone_may_call_is_refused_to_python_and_not_to_them():
    assert fourfold(3) == 12
    with pytest.raises(TypeError, match="doubled is compiled for kernels alone"):
        doubled(3)
