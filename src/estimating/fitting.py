"""Refusing what cannot fit into memory, before any weights load, and saying what would."""

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
    """Refuse a job whose weights, trained parameters and shortest cache exceed the device's memory.

    What may not fit, since it depends on lengths and on the split into micro-batches, is a warning.

    Raises:
        InputError: says what is needed and available, and which settings would fit.
    """
    try:
        shape = shape_of(blueprint(job.model))
    except AttributeError as error:
        logger.warning("memory is not estimated: %s has another kind of configuration (%s)", job.model.name, error)
        return
    job = replace(job, model=_with_its_adapter(job.model))
    free = available(job.model.placed, job.lent)
    if free is None:
        return
    if least(shape, job).peak > free:
        raise InputError(refusal(shape, job, free))
    if (whole := demand(shape, job)).peak > free:
        again = replace(job, model=job.model.replace(gradient_checkpointing=True))
        ways = [
            " ".join(bounded(shape, job, free)),
            "model.gradient_checkpointing=true" if demand(shape, again).peak <= free else "",
        ]
        logger.warning(
            "%s: may need up to %s on %s (%s), %s are available; %s would fit",
            job.model.name,
            _size(whole.peak),
            job.model.placed,
            _parts(whole),
            _size(free),
            " or ".join(filter(None, ways)) or "a smaller model",
        )


def least(shape: Shape, job: Job) -> Demand:
    """What is needed whatever the lengths are: one row in the cache, one token in a micro-batch."""
    cache, batch = min(job.cache_tokens, job.model.round_tokens), min(job.micro_batch_tokens, 1)
    return demand(shape, replace(job, cache_tokens=cache, micro_batch_tokens=batch))


def refusal(shape: Shape, job: Job, free: float) -> str:
    """Why a job cannot run in ``free`` bytes, and which changes would let it."""
    need = least(shape, job)
    fitting = [f"{text} ({_size(peak)})" for text, peak in remedies(shape, job) if peak < free]
    return (
        f"model.name={job.model.name}: needs {_size(need.peak)} at the least on {job.model.placed} ({_parts(need)}), "
        f"and {_size(free)} are available. What would fit: {', '.join([*fitting, 'a smaller model'])}"
    )


def remedies(shape: Shape, job: Job) -> Iterator[tuple[str, float]]:
    """Changes of the model's section that need less, each with its least bytes."""
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
    """The largest bounds on batches, by halving, under which a job's estimate fits into ``free`` bytes, as settings.

    Empty where none does.
    """
    found = []
    for key, field in (("engine.max_batch_tokens", "cache_tokens"), ("train.micro_batch_tokens", "micro_batch_tokens")):
        others = {"cache_tokens": 0, "micro_batch_tokens": min(job.micro_batch_tokens, 1)}
        bound = getattr(job, field)
        while bound > 1 and demand(shape, replace(job, **{**others, field: bound})).peak > free:
            bound //= 2
        if bound != getattr(job, field):
            found.append(f"{key}={bound}" if bound >= job.model.round_tokens else "")
    return found if all(found) else []


def _with_its_adapter(model: ModelSettings) -> ModelSettings:
    """The rank and targets of the adapter that ``model.adapter`` names, in place of ``model.lora``'s."""
    if model.adapter is None:
        return model
    settings = json.loads((adapter_folder(model.adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    targets = settings["target_modules"]
    if not isinstance(targets, list):
        return model
    return model.replace(lora=Lora(r=settings["r"], alpha=settings["lora_alpha"], targets=targets))


def _size(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def _parts(need: Demand) -> str:
    """The parts of a hundredth and more."""
    return ", ".join(f"{name} {_size(size)}" for name, size in asdict(need).items() if size >= need.peak / 100)
