"""Write a run's model for use elsewhere: ``python -m src.export run=<run dir> out=<folder>``, merged or its adapter."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from src import config as configuration
from src.types import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

WHAT = ("merged", "adapter")
DTYPES = ("float32", "bfloat16", "float16")


def export(config: DictConfig) -> None:
    """The model of a checkpoint as transformers or PEFT would save it; with its README, if the run ended there."""
    from src.models.loading import load_merged, load_policy
    from src.reporting.model_card import card
    from src.utils.files import whole_folder, write_text

    run, out = Path(config.run), Path(config.out)
    trained = configuration.load(run)
    trained.run, trained.checkpoint = config.run, config.checkpoint
    saved, step = configuration.checkpoint_of(trained)
    assert saved is not None
    model = configuration.build(trained.model, configuration.section("model"))
    if errors := mistakes(config, model.lora is not None):
        raise InputError(*errors)
    merged = config.what == "merged"
    with whole_folder(out) as folder:
        if merged:
            whole, tokenizer = load_merged(model, saved, config.dtype)
            whole.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        else:
            load_policy(model, trained.seed, saved).write(folder)
        if (run / "summary.json").exists():
            summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
            if summary["final"]["step"] == step:
                settings = configuration.plain(trained)
                write_text(folder / "README.md", card(summary, settings, configuration.overrides(run), merged))
    print(f"wrote {out}: {config.what}, step {step} of {run}")


def mistakes(config: DictConfig, adapted: bool) -> list[str]:
    """What is wrong with the settings, in words."""
    errors = []
    if config.what not in WHAT:
        errors.append(f"what={config.what}: valid: {', '.join(WHAT)}")
    if config.what == "adapter" and not adapted:
        errors.append(f"what=adapter: run={config.run} trained all weights and has no adapter; use what=merged")
    if config.dtype not in (None, *DTYPES):
        errors.append(f"dtype={config.dtype}: valid: {', '.join(DTYPES)}, or null")
    if Path(config.out).exists():
        errors.append(f"out={config.out}: is there already; name a folder that is not")
    return errors


if __name__ == "__main__":
    sys.exit(configuration.launch("export", export))
