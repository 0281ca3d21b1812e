"""checkpoints.py: what a checkpoint consists of is on the disk before it has its name."""

import os
from pathlib import Path

from llm.training import checkpoints
from tests.unit.llm.training.test_checkpoints import Run, at


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name_and_the_name_after(
    tmp_path, monkeypatch
):
    done, sync, replace = [], os.fsync, os.replace

    def fsync(descriptor):
        done.append(("on disk", os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def renamed(source, target):
        done.append(("named", str(target)))
        replace(source, target)

    monkeypatch.setattr(checkpoints.os, "fsync", fsync)
    monkeypatch.setattr(checkpoints.os, "replace", renamed)
    made = Run().save(tmp_path, at(1))
    part = Path(str(made) + ".part")
    named = done.index(("named", str(made)))
    written = {part / file.name for file in made.iterdir()}
    assert {Path(path) for _, path in done[:named]} == {part, *written}
    assert done[named - 1] == ("on disk", str(part)) and done[named + 1 :] == [("on disk", str(tmp_path))]
