"""Pretrain the embedded model from scratch: ``python -m src.pretrain``.

Writes a Hugging Face checkpoint. The same settings on the same kind of machine give bit-identical weights.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from src import config as configuration


def pretrain(config: configuration.Config[Any], directory: Path) -> None:
    """Build the tokenizer, train the model on generated demonstrations, and write the checkpoint."""
    from functools import partial

    import torch
    from rich.progress import track

    from src.models.weights import weights_hash
    from src.sft.loop import supervise
    from src.sft.pretraining import batches, build_model, build_optimizer, build_tokenizer, loss, words

    settings = config.settings
    training = settings.training
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(settings.seed)
    rng = random.Random(settings.seed)
    splits = settings.benchmark.load()
    held_out = frozenset(
        problem.question for problems in (splits.validation, *splits.tests.values()) for problem in problems
    )
    tokenizer = build_tokenizer(words(settings.prompts))
    model = build_model(settings.architecture, tokenizer)
    optimizer, schedule = build_optimizer(model, training)
    stream = batches(rng, settings.demonstrations, training, tokenizer, settings.prompts, held_out)
    steps = supervise(stream, partial(loss, model, tokenizer.pad_token_id), optimizer, schedule, 1.0)
    recent: list[float] = []
    for step, line in enumerate(track(steps, "supervised steps", total=training.steps), start=1):
        recent = [*recent[-199:], line["loss"]]
        if step % 500 == 0:
            print(f"step {step}: loss {sum(recent) / len(recent):.4f}", flush=True)
    folder = Path(settings.out)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    digest = weights_hash(model.named_parameters())
    print(f"wrote {folder}: {model.num_parameters():,} parameters, sha256 {digest}")


if __name__ == "__main__":
    sys.exit(configuration.launch("pretrain", pretrain))
