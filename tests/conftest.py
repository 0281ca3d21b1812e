"""Hypothesis profiles (20 examples, 100 where CI is set, 1000 with --hypothesis-profile=thorough), names.

Workers take whole files, and signatures are checked in the first calls of each test (`tests/signatures.py`).
"""

import os
import re
import signal
from typing import Any

# Read when the library of threads is loaded: a thread that waits sleeps, also in processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import jaxtyping
import numba
import pytest
from hypothesis import settings

from tests import signatures

signatures.check_first_calls()

# In the background of a shell a process inherits that Ctrl-C is ignored, and hands that on to its own.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Each worker of `pytest -n 2` has a core. Compiled passes that share their loops among as many threads as
# there are cores would wait for one beside the other worker at every step, ten times as long as they compute.
numba.set_num_threads(1)

settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("thorough", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_runtest_protocol() -> None:
    signatures.begin_test()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files where `-n` says no more: a fixture of a module is made, and a formula compiled, once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names without addresses, on one line: workers that share the tests must agree on every name."""
    shown = repr(val)
    if " at 0x" not in shown and "\n" not in shown:
        return None
    named = re.sub(r"<(?:function )?([\w.]+|<lambda>)(?: object)? at 0x[0-9a-f]+>", r"\1", shown)
    return " ".join(named.split())[:120]


@pytest.fixture
def unchecked_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls as users make them: only tests check signatures, and they do so before the function itself."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
