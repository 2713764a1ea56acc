"""Reading the offline file of a W&B run: LevelDB's log format, with protocol buffers as records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7


def records(file: Path) -> Iterator[Any]:
    """Yield the records of a ``.wandb`` file."""
    from wandb.proto import wandb_internal_pb2

    content, place, whole = file.read_bytes(), FILE_HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:  # the rest of a block that is too small for a header
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + HEADER])
        whole += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # a full record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def exit_codes(run: Path) -> list[int]:
    """Exit codes of the W&B runs in a run directory, oldest first."""
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    return [one.exit.exit_code for file in files for one in records(file) if one.WhichOneof("record_type") == "exit"]


def logged_steps(run: Path) -> list[int]:
    """Steps whose metrics the W&B runs in a run directory hold."""
    found = []
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for one in records(file):
            if one.WhichOneof("record_type") == "history":
                values = {item.key or ".".join(item.nested_key): item.value_json for item in one.history.item}
                found += [int(values["step"])] if "train/loss" in values else []
    return found


def content(run: Path) -> dict[str, Any]:
    """What the W&B runs of a run directory hold: settings, metrics by step, rollout tables, step metrics by name."""
    found: dict[str, Any] = {"runs": [], "config": {}, "history": {}, "tables": [], "axes": {}}
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for one in records(file):
            kind = one.WhichOneof("record_type")
            if kind == "run":
                found["runs"].append(one.run)
                found["config"] |= {item.key: json.loads(item.value_json) for item in one.run.config.update}
            elif kind == "metric":
                found["axes"][one.metric.name or one.metric.glob_name] = one.metric.step_metric
            elif kind == "history":
                values = {item.key or ".".join(item.nested_key): item.value_json for item in one.history.item}
                values = {key: json.loads(value) for key, value in values.items()}
                found["history"].setdefault(values["step"], {}).update(values)
                if path := values.get("rollout/trees.path"):
                    found["tables"].append(json.loads((file.parent / "files" / path).read_text()))
    return found
