"""Migrating recorded configurations of old runs to the current names of settings and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TARGETS = {
    "src.engines.transformers.TransformersEngine": "src.engines.local.settings.Local",
    "src.engines.vllm.VLLMEngine": "src.engines.vllm.VLLM",
    "src.optimizers.AdamW": "src.optimizers.adamw.AdamW",
    "src.optimizers.AdamW8bit": "src.optimizers.adamw_8bit.AdamW8bit",
    "src.rounds.base.Prompts": "src.rounds.prompts.Prompts",
    "src.tracking.NoTracker": "src.tracking.none.NoTracker",
    "src.tracking.WandbTracker": "src.tracking.wandb.Wandb",
}
"""Former class paths of sections, and the current ones."""

CREDIT = {
    "first": "src.credit.first.First",
    "siblings": "src.credit.siblings.Siblings",
    "process": "src.credit.process.Process",
    "global_local": "src.credit.global_local.GlobalLocal",
}
"""Former values of ``reward.credit``, and the current classes of the group ``credit``."""

COPIED = ("context", "lora", "adapter", "dtype", "revision", "quantization")
"""Model settings that ``engine=vllm`` used to duplicate."""


def migrated(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the settings and classes of a recorded configuration (plain values, interpolations unresolved)."""
    result: dict[str, Any] = _renamed(values)
    reward, engine = result.get("reward"), result.get("engine")
    if isinstance(reward, dict) and "credit" in reward:
        credit = reward.pop("credit")
        if isinstance(credit, str):
            credit = {"_target_": CREDIT.get(credit, credit)}
        result.setdefault("credit", credit)
    if isinstance(engine, dict) and engine.get("_target_") == TARGETS["src.engines.vllm.VLLMEngine"]:
        result["engine"] = {name: value for name, value in engine.items() if name not in COPIED}
    return result


def _renamed(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {
            key: TARGETS.get(value, value) if key == "_target_" and isinstance(value, str) else _renamed(value)
            for key, value in values.items()
        }
    if isinstance(values, list):
        return [_renamed(value) for value in values]
    return values
