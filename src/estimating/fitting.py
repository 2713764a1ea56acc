"""Memory check before weights load: refuse a job that cannot fit, and suggest settings that would."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, replace

from src.estimating.available import available
from src.estimating.memory import Demand, Job, demand
from src.estimating.shape import Shape, shape_of
from src.models.loading import blueprint
from src.models.settings import Lora, ModelSettings, adapter_folder
from src.types import InputError

logger = logging.getLogger(__name__)
GIB = 2**30


def check_memory(job: Job) -> None:
    """Refuse a job whose minimum memory (weights, trained parameters, smallest cache) exceeds the device's.

    A job that may exceed it, depending on lengths and on the split into micro-batches, only gets a warning.

    Raises:
        InputError: says what is needed and available, and which settings would fit.
    """
    try:
        shape = shape_of(blueprint(job.model))
    except (AttributeError, RuntimeError) as error:  # RuntimeError: attributes that differ from layer to layer
        logger.warning("%s: memory is not estimated, unknown configuration format (%s)", job.model.name, error)
        return
    job = replace(job, model=_with_its_adapter(job.model))
    free = available(job.model.placed, job.lent)
    if free is None:
        return
    if least(shape, job).peak > free:
        raise InputError(refusal(shape, job, free))
    if (most := demand(shape, job)).peak > free:
        checkpointed = replace(job, model=job.model.replace(gradient_checkpointing=True))
        changes = [
            " ".join(bounded(shape, job, free)),
            "model.gradient_checkpointing=true" if demand(shape, checkpointed).peak <= free else "",
        ]
        logger.warning(
            "%s: may need up to %s on %s (%s), but %s are available; %s would fit",
            job.model.name,
            _size(most.peak),
            job.model.placed,
            _parts(most),
            _size(free),
            " or ".join(filter(None, changes)) or "a smaller model",
        )


def least(shape: Shape, job: Job) -> Demand:
    """Minimum demand, whatever the lengths: one row in the cache, one token in a micro-batch."""
    cache, batch = min(job.cache_tokens, job.model.round_tokens), min(job.micro_batch_tokens, 1)
    return demand(shape, replace(job, cache_tokens=cache, micro_batch_tokens=batch))


def refusal(shape: Shape, job: Job, free: float) -> str:
    """Format the error for a job that cannot run in ``free`` bytes, with changes that would fit."""
    need = least(shape, job)
    fitting = [f"{text} ({_size(peak)})" for text, peak in remedies(shape, job) if peak < free]
    return (
        f"model.name={job.model.name}: needs at least {_size(need.peak)} on {job.model.placed} ({_parts(need)}), "
        f"but {_size(free)} are available. What would fit: {', '.join([*fitting, 'a smaller model'])}"
    )


def remedies(shape: Shape, job: Job) -> Iterator[tuple[str, float]]:
    """Yield changes of model settings that need less memory, each with its minimum demand in bytes."""
    model = job.model
    if model.lora is None:
        adapted = model.replace(lora=Lora(r=64, alpha=64), dtype="float32")
        yield "an adapter (model.lora.r=64) in place of all weights", least(shape, replace(job, model=adapted)).peak
        return
    if model.precision.itemsize > 2 and model.quantization is None:
        half = model.replace(dtype="bfloat16")
        yield "model.dtype=bfloat16", least(shape, replace(job, model=half)).peak
    if model.quantization is None:
        packed = model.replace(quantization="nf4", dtype="bfloat16")
        yield "model.quantization=nf4 model.dtype=bfloat16", least(shape, replace(job, model=packed)).peak


def bounded(shape: Shape, job: Job, free: float) -> list[str]:
    """Return settings of smaller batches, found by halving, with which a job's estimate fits into ``free`` bytes.

    Empty if no such settings exist.
    """
    settings = []
    for key, field in (("engine.max_batch_tokens", "cache_tokens"), ("train.micro_batch_tokens", "micro_batch_tokens")):
        others = {"cache_tokens": 0, "micro_batch_tokens": min(job.micro_batch_tokens, 1)}
        bound = getattr(job, field)
        while bound > 1 and demand(shape, replace(job, **{**others, field: bound})).peak > free:
            bound //= 2
        if bound != getattr(job, field):
            settings.append(f"{key}={bound}" if bound >= job.model.round_tokens else "")
    return settings if all(settings) else []


def _with_its_adapter(model: ModelSettings) -> ModelSettings:
    """Replace ``model.lora`` by the rank and targets of the adapter that ``model.adapter`` names."""
    if model.adapter is None:
        return model
    config = json.loads((adapter_folder(model.adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    targets = config["target_modules"]
    if not isinstance(targets, list):
        return model
    return model.replace(lora=Lora(r=config["r"], alpha=config["lora_alpha"], targets=targets))


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def _parts(need: Demand) -> str:
    """List the parts that are at least 1 % of the peak."""
    return ", ".join(f"{name} {_size(size)}" for name, size in asdict(need).items() if size >= need.peak / 100)
