"""atomic.py: whatever fails, at whatever operation, a file holds its old or its new bytes."""

import errno
import itertools
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.unit.experiment import faults
from ticgrpo_theory.experiment.atomic import replace_files

OLD, NEW = b"old" * 100, b"new" * 200


def test_both_files_are_replaced_and_nothing_else_is_left(tmp_path):
    files = {tmp_path / "deep" / name: NEW for name in ("a", "b")}
    replace_files(files)
    assert {path: path.read_bytes() for path in (tmp_path / "deep").iterdir()} == files


def test_a_full_disk_at_any_operation_leaves_whole_files_and_a_second_attempt_succeeds(tmp_path):
    files = {tmp_path / "x" / name: NEW for name in ("a", "b")}
    states = []
    for n in itertools.count(1):
        replace_files(dict.fromkeys(files, OLD))
        try:
            with faults.at_operation(n, faults.disk_full) as done:
                replace_files(files)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert "No space left on device while writing a, b; free space" in str(error)
            states.append(tuple(path.read_bytes() for path in files))
            replace_files(files)
        if len(done) < n:
            break
        assert sorted((tmp_path / "x").iterdir()) == sorted(files)
        assert {path.read_bytes() for path in files} == {NEW}
    # The faults reached every stage: before the first replacement, between the two, and after both.
    assert list(dict.fromkeys(states)) == [(OLD, OLD), (NEW, OLD), (NEW, NEW)]


def test_every_new_file_is_on_the_disk_before_one_is_replaced_and_the_folder_after(tmp_path):
    replace_files({tmp_path / name: OLD for name in ("a", "b")})
    with faults.at_operation(0, faults.disk_full) as done:
        replace_files({tmp_path / name: NEW for name in ("a", "b")})
    written = ["open", "write", "fsync"]
    assert done == [
        *["mkdir", "open", "flock"],
        *written,
        *written,
        "replace",
        "replace",
        "fsync",
        *["unlink"] * 2,
    ]


def test_writes_that_take_seven_bytes_at_a_time_arrive_whole(tmp_path):
    with faults.short_writes(7):
        replace_files({tmp_path / "a": NEW})
    assert (tmp_path / "a").read_bytes() == NEW


def test_the_limit_of_the_kernel_on_file_size_is_reported_and_leaves_the_old_file(tmp_path):
    replace_files({tmp_path / "a": OLD})
    code = f"from pathlib import Path; from ticgrpo_theory.experiment.atomic import replace_files as f; \
             f({{Path({str(tmp_path / 'a')!r}): bytes(5000)}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert "File too large while writing a; free space or choose another folder" in done.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [OLD]


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(OSError, match="File exists while writing a; free space or choose another folder"):
        replace_files({tmp_path / "results" / "a": NEW})


def test_writers_at_the_same_time_never_mix_their_files(tmp_path):
    def writer(byte: bytes) -> None:
        for length in range(1, 60):
            replace_files({tmp_path / "a": byte * length, tmp_path / "b": byte * length})

    threads = [threading.Thread(target=writer, args=(byte,)) for byte in (b"x", b"y", b"z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A writer that met another's temporary file would have died, and pytest turns that into a failure.
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
