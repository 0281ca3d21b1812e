"""metrics_file.py: whole lines on the disk, whatever a killed process left behind them."""

import os

import pytest

from llm.training import metrics_file


def test_lines_are_on_the_disk_before_the_next_rollout(tmp_path, monkeypatch):
    path, on_disk = tmp_path / "metrics.jsonl", []
    monkeypatch.setattr(
        os, "fsync", lambda file: on_disk.append((os.readlink(f"/proc/self/fd/{file}"), read(path)))
    )
    metrics_file.append(path, [{"x": 1}, {"x": 2}])
    assert on_disk == [(str(path), b'{"x": 1}\n{"x": 2}\n')]


def read(path):
    return path.read_bytes()


def test_timings_alone_are_left_out_of_a_comparison():
    line = {"rollout": 3, "reward": 0.5, "seconds_update": 1.0, "share_cut": 0.1, "mfu": 0.4, "lr": 0.1}
    assert metrics_file.without_timings(line) == {"rollout": 3, "reward": 0.5, "lr": 0.1}


def test_a_torn_last_line_is_repaired(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics_file.append(path, [{"rollout": 0, "x": 0.1}, {"rollout": 0, "x": 0.2}, {"rollout": 1, "x": 0.3}])
    metrics_file.append(path, [{"rollout": 2, "x": 0.4}])
    path.write_bytes(path.read_bytes()[:-6])
    assert [line["x"] for line in metrics_file.read(path)] == [0.1, 0.2, 0.3]
    assert metrics_file.repair(path, 1) == [{"rollout": 0, "x": 0.1}, {"rollout": 0, "x": 0.2}]
    metrics_file.append(path, [{"rollout": 1, "x": 0.5}])
    assert [line["x"] for line in metrics_file.read(path)] == [0.1, 0.2, 0.5]


def test_a_file_that_no_run_wrote_is_refused(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"rollout": 0}\nnotes of mine\n{"rollout": 1}\n')
    with pytest.raises(ValueError, match=r"line 2 of .*metrics\.jsonl is not JSON"):
        metrics_file.repair(path, 5)
    assert "notes of mine" in path.read_text()
