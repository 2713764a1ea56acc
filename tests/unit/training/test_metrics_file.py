"""``metrics.jsonl`` stays valid whenever a run is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.training.metrics_file import MetricsFile


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("after", "kept"), [(0, []), (1, [1]), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])]
)
@pytest.mark.parametrize("tail", ["", '{"step": 6, "loss": 0.', '{"st', "{", "\0\0\0"])
def test_later_steps_and_an_incomplete_line_are_dropped(tmp_path, after, kept, tail):
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps({"step": step, "loss": step / 10}) + "\n" for step in range(1, 6)]
    path.write_text("".join(whole) + tail)
    with MetricsFile(path, after) as metrics:
        assert path.read_text() == "".join(whole[: len(kept)])
        assert metrics.last() == ({"step": kept[-1], "loss": kept[-1] / 10} if kept else {})
        metrics.log({"step": after + 1, "loss": 0.25})
        assert [line["step"] for line in lines(path)] == [*kept, after + 1]
        assert metrics.last() == {"step": after + 1, "loss": 0.25}


def test_a_last_line_without_newline_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    with MetricsFile(path, 5) as metrics:
        metrics.log({"step": 3})
    assert lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_every_line_is_written_immediately(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsFile(path, 0) as metrics:
        assert metrics.last() == {}
        for step in range(3):
            metrics.log({"step": step, "text": "ä\n\u2028"})
            assert lines(path)[-1] == {"step": step, "text": "ä\n\u2028"}


def test_the_file_is_closed_after_an_exception(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)

    def crash():
        with metrics:
            metrics.log({"step": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    with pytest.raises(ValueError, match="closed file"):
        metrics.log({"step": 2})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_non_finite_numbers_are_refused(tmp_path):
    with MetricsFile(tmp_path / "metrics.jsonl", 0) as metrics, pytest.raises(ValueError, match="not JSON compliant"):
        metrics.log({"step": 1, "loss": float("nan")})
    assert lines(tmp_path / "metrics.jsonl") == []


# gaps


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "the lines of steps 1, 2, 3 and 3 more are missing"),
        (
            lambda path: path.write_text("".join(path.read_text().splitlines(True)[:4])),
            "the lines of steps 5, 6 are missing",
        ),
        (lambda path: path.write_text(path.read_text()[:-20]), "the line of step 6 is missing or damaged"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"st\xffp": 2')),
            "the line of step 2 is",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("0.3", "0.4")),
            "the line of step 3 is missing or damaged",
        ),
    ],
)
def test_a_gap_is_said_and_filled_from_the_checkpoints_copy(tmp_path, damage, said):
    path, copy = tmp_path / "metrics.jsonl", tmp_path / "copy.jsonl"
    whole = "".join(json.dumps({"step": step, "loss": step / 10}) + "\n" for step in range(1, 7))
    for file in (path, copy):
        file.write_text(whole)
    with MetricsFile(path, 6, copy) as metrics:
        assert metrics.repaired == ""
    damage(path)
    with MetricsFile(path, 6, copy) as metrics:
        assert f"{path}: {said}" in metrics.repaired
        assert metrics.repaired.endswith("; filled from the checkpoint's copy")
    assert path.read_text() == whole


def test_a_gap_without_a_copy_is_said(tmp_path):
    path, copy = tmp_path / "metrics.jsonl", tmp_path / "copy.jsonl"
    path.write_text('{"step": 1}\n{"step": 4}\n')
    with MetricsFile(path, 4, copy) as metrics:
        assert metrics.repaired.endswith("the lines of steps 2, 3 are lost, since no checkpoint has a copy")
    copy.write_text('{"step": 1}\n{"step": 2}\n')
    with MetricsFile(path, 4, copy) as metrics:
        assert "the lines of steps 2, 3" in metrics.repaired
        assert "filled from the checkpoint's copy; the line of step 3 is lost" in metrics.repaired
    assert [line["step"] for line in lines(path)] == [1, 2, 4]


def test_lines_are_synced_before_the_call_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    with MetricsFile(tmp_path / "metrics.jsonl", 0) as metrics:
        before = len(synced)
        metrics.log({"step": 1})
        assert len(synced) == before + 1
