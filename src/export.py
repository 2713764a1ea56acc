"""Export a run's model, merged or as an adapter: ``python -m src.export run=<run dir> out=<folder>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from src import config as configuration
from src.types import InputError


def export(config: configuration.Config[Any], directory: Path) -> None:
    """Write the model of a checkpoint in the format of transformers or PEFT.

    A model card is added if the checkpoint is the one that the run's summary reports.

    Raises:
        InputError: the directory is not a run, the checkpoint does not exist, or the output folder exists.
    """
    from src.utils import checkpoints

    settings = config.settings
    run, out = Path(settings.run), Path(settings.out)
    trained = configuration.recorded(run)
    checkpoint = checkpoints.chosen(run, settings.checkpoint)
    step = checkpoints.step_of(checkpoint)
    model, merged = trained.settings.model, settings.what == "merged"
    errors = []
    if not merged and model.lora is None:
        errors.append(f"what=adapter: run={run} trained all weights and has no adapter; use what=merged")
    if out.exists():
        errors.append(f"out={out}: already exists; name a new folder")
    if errors:
        raise InputError(*errors)

    from src.models.loading import load_merged, load_policy  # heavy: nothing above needs it
    from src.reporting.model_card import card
    from src.utils.files import whole_folder, write_text

    with whole_folder(out) as folder:
        if merged:
            merged_model, tokenizer = load_merged(model, checkpoint, settings.dtype)
            merged_model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        else:
            load_policy(model, trained.settings.seed, checkpoint).write(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's template of a model card
        if (run / "summary.json").exists():
            summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
            if reported_step(summary) == step:
                write_text(folder / "README.md", card(summary, trained.values, trained.overrides, merged))
    print(f"wrote {out}: {settings.what}, step {step} of {run}")


def reported_step(summary: dict[str, Any]) -> int:
    """Return the step of the weights that a summary's final evaluations used."""
    if "reported_step" in summary:
        return int(summary["reported_step"])
    return int((summary.get("best") or summary["final"])["step"])


if __name__ == "__main__":
    sys.exit(configuration.launch("export", export))
