"""Verdicts that cost money or time, kept in one file that several processes may share."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path


class VerdictCache:
    """Verdicts by key, in the SQLite file ``path``; in memory if there is none."""

    def __init__(self, path: str | None) -> None:
        self.lock = threading.Lock()
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.file = sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False, isolation_level=None)
        self.file.execute("create table if not exists verdicts (key text primary key, verdict real not null)")

    def get(self, key: str) -> float | None:
        with self.lock:
            row = self.file.execute("select verdict from verdicts where key = ?", (key,)).fetchone()
        return None if row is None else float(row[0])

    def put(self, key: str, verdict: float) -> None:
        with self.lock:
            self.file.execute("insert or replace into verdicts values (?, ?)", (key, verdict))
