"""Hypothesis profiles (50 examples at the desk; 300, always the same, where CI is set) and a shared fixture."""

import os
import re

import jaxtyping
import pytest
from hypothesis import settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=300, deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names functions without their address: workers that share the tests must agree on every name."""
    shown = repr(val)
    return re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", shown) if " at 0x" in shown else None


@pytest.fixture
def unchecked_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls as users make them: signatures are checked only while testing, before the function's own checks."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
