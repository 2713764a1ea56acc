"""Errors that are the user's to mend end a command with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config.ending import ended
from src.utils.services import UnavailableError


def test_a_service_that_fails_ends_a_command_with_its_words(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def action() -> None:
        raise UnavailableError("http://localhost:8000 does not answer")

    assert ended(action, tmp_path) == 1
    assert capsys.readouterr().err == "stopped: http://localhost:8000 does not answer\n"
