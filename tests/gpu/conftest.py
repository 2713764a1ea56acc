"""Tests that need a CUDA device; elsewhere they are skipped, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

DEVICE = "cuda"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture
def device() -> str:
    return DEVICE


@pytest.fixture
def on_gpu(device: str) -> list[str]:
    """Overrides of a run on the device."""
    return [f"model.device={device}"]
