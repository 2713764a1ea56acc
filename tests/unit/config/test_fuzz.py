"""A sample of random command lines: each is answered, none with a traceback."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz


@pytest.mark.slow
def test_random_command_lines_are_answered() -> None:
    answers, findings = fuzz(40, 0, seed=1)
    assert findings == []
    assert answers["composed: valid"] > 0
    assert answers["composed: refused"] > 0
