"""printed_config.py: a configuration is read whole or not at all."""

from pprint import pformat

import pandas as pd
import pytest

from tests.unit.training_logs.logged_runs import (
    CONFIG,
    three_steps,
)
from ticgrpo_theory.training_logs.console import parse_console
from ticgrpo_theory.training_logs.runs import updates_per_rollout


def plain(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def expected_frame() -> pd.DataFrame:
    steps = pd.Index([1, 2, 3], name="step")
    values = {"reward": steps / 8, "length": 100.0 + steps, "kl": -steps / 1024}
    return pd.DataFrame(values, index=steps)


def test_a_printed_configuration_is_read_through_prefixes_and_other_processes():
    wrapped = pformat(CONFIG, width=40).splitlines()
    assert len(wrapped) > 10
    lines = [f"(main_task pid=1) {line}" for line in wrapped]
    lines.insert(4, "(WorkerDict pid=2) {'something': 'else'")
    logs = parse_console(plain([*lines, *three_steps()]), "run")
    settings = logs.runs[0].settings
    assert updates_per_rollout(settings) == 4
    assert settings["rollout_n"] == 16 and settings["model"] == "a/Model-1.7B" and settings["lr"] == 1e-6
    # Partner: the same dictionary without its last lines is named, and nothing of it is used.
    cut = parse_console(plain([*lines[:-3], *three_steps()]), "run")
    assert dict(cut.runs[0].settings) == {}
    assert any("cut off or damaged" in sentence for sentence in cut.left_out)
    pd.testing.assert_frame_equal(cut.runs[0].frame, expected_frame())
    with pytest.raises(ValueError, match=r"ppo_epochs = None, .*a positive number is needed"):
        updates_per_rollout(cut.runs[0].settings)
