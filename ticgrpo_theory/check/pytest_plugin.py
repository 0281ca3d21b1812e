"""A marker for tests that are a loss: `@pytest.mark.ticgrpo(requires=["mask", "unbiased_on_policy"])`.

    @pytest.mark.ticgrpo(requires=["sign", "mask"])
    def test_my_loss():
        return my_loss            # or loss, {"scope": "batch"}

with `pytest_plugins = ["ticgrpo_theory.check.pytest_plugin"]` in conftest.py, or `pytest -p` with that name.
The function returns the loss, or (loss, options of `check_loss`); the test passes where every required row
holds, and fails with the verdict and what to change.
"""

from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker is for."""
    config.addinivalue_line(
        "markers",
        "ticgrpo(requires=[...], **options): the test returns a loss; ticgrpo_theory.check judges it",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a marked test, and check the loss that it returns."""
    marker = pyfuncitem.get_closest_marker("ticgrpo")
    if marker is None:
        return None
    given = pyfuncitem.funcargs
    names = pyfuncitem._fixtureinfo.argnames
    judge(pyfuncitem.obj(**{name: given[name] for name in names}), pyfuncitem.name, **marker.kwargs)
    return True


def judge(returned: Any, name: str, **options: Any) -> None:
    """Raise AssertionError where a required row does not hold, ValueError where nothing was returned."""
    from ticgrpo_theory.check.card import assert_loss

    loss, more = returned if isinstance(returned, tuple) else (returned, {})
    if loss is None:
        raise ValueError(f"{name} is marked `ticgrpo` and returned None: return the loss to be checked")
    assert_loss(loss, **{**options, **more})
