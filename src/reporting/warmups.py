"""Warm-ups that runs start from. If each seed has its own, their settings tell groups apart, not their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src import config as configuration
from src.types import InputError

WARM_UP = "warm-up/"
"""Beginning of the names of a warm-up's settings among those of a run."""

ADAPTER, BASE = "model.adapter", "base_sha256"


def texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as text, without ``seed`` and ``tracking``, which do not distinguish groups."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in settings.items()
        if key != "seed" and key.partition(".")[0] != "tracking"
    }


def with_warm_up(settings: Mapping[str, str], seed: int, seen: frozenset[str] = frozenset()) -> Mapping[str, str]:
    """The settings of a run, with those of its warm-up in place of the folder, if the warm-up has the run's ``seed``.

    ``base_sha256``, which covers the adapter, becomes that of the weights that the warm-up started from. If the adapter
    is no such warm-up or its folder is gone, the settings stay as they are. ``seen`` holds the folders of warm-ups that
    started from this one.
    """
    folder = settings.get(ADAPTER, "null")
    try:
        own, _ = configuration.written(Path(folder))
        summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    except (InputError, OSError, ValueError):
        return settings
    if folder in seen or own.get("seed") != seed or "imitation.steps" not in own:
        return settings
    started = dict(with_warm_up({**texts(own), BASE: summary[BASE]}, seed, seen | {folder}))
    base = started.pop(BASE)
    return {**settings, ADAPTER: "warm-up", BASE: base, **{f"{WARM_UP}{key}": one for key, one in started.items()}}


def lacks(settings: Mapping[str, str], name: str) -> bool:
    """Whether ``name`` is a setting of a warm-up, and the run with these settings has no such warm-up."""
    warm_up = WARM_UP * name.count(WARM_UP)
    return bool(warm_up) and f"{warm_up}imitation.steps" not in settings
