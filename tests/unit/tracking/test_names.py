"""Names and counters of metrics in trackers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.tracking.names import Counting, name


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("loss", "train/loss"),
        ("tokens/trained", "train/tokens/trained"),
        ("time/train", "train/time/train"),
        ("reward/format", "rollout/reward/format"),
        ("completion/round_1/mean_tokens", "rollout/completion/round_1/mean_tokens"),
        ("tokens/generated", "rollout/tokens/generated"),
        ("validation/accuracy", "eval/validation/accuracy"),
    ],
)
def test_keys_are_sorted_into_three_namespaces(key: str, shown: str) -> None:
    assert name(key) == shown


def test_tokens_are_counted_over_a_resume(tmp_path: Path) -> None:
    lines = [{"step": step, "tokens/generated": 10 * step} for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    counting = Counting(tmp_path)
    first = counting.named({"step": 3, "problems_seen": 6, "tokens/generated": 30})
    assert first == {"step": 3, "problems": 6, "tokens": 60, "rollout/tokens/generated": 30}
    assert counting.named({"step": 4, "problems_seen": 8, "tokens/generated": 5})["tokens"] == 65
    assert Counting(tmp_path / "new").named({"step": 1, "problems_seen": 2, "tokens/generated": 7})["tokens"] == 7
