"""Build the embedded model from nothing: a tokenizer, then supervised training on generated demonstrations.

``python -m src.pretrain`` writes a Hugging Face checkpoint. The same settings on the same kind of machine give the
same bits.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import config as configuration
from src.sft.demonstrations import QUESTION, Demonstration, DemonstrationSettings, draw

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import Qwen2Tokenizer

    from src.rounds.base import Prompts
    from src.types import Message

Pair = tuple[list[int], list[int]]
"""Token ids of a prompt and of the completion to imitate."""

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] | replace(' + ', '+') | replace(' - ', '-') | replace(' =', '=') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen's layout. Sums lose their spaces, so that an expression looks the same in a question and in a progress."""


def build_tokenizer(texts: Sequence[str]) -> Qwen2Tokenizer:
    """A byte-level BPE that covers any text: the words of ``texts`` and the protocol's tags are single tokens, and
    every digit and sign is one of its own."""
    import json

    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    from src.verifiers.tags import BOXED, TAGS

    words = sorted({word for text in texts for word in re.findall(r" ?[^\W\d_]+", text)})
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        show_progress=False,
    )
    bpe.train_from_iterator(words, trainer)
    learned = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[TURN_START],
    )
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in (*TAGS, BOXED)])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def messages(demonstration: Demonstration, prompts: Prompts) -> list[Message]:
    """The chat that a demonstration answers, through the same templates and carry rules as a rollout's."""
    from src.types import Sampling, Turn

    lineage = [
        Turn((0,) * number, (), Sampling(1), text=text) for number, text in enumerate(demonstration.before, start=1)
    ]
    shown = None
    if lineage:
        name = demonstration.carry
        shown = configuration.locate(f"src.rounds.carry.{name}.{name.title()}")().carry(lineage, prompts)
    rounds = demonstration.round if demonstration.final else 0
    return prompts.messages(demonstration.question, shown, demonstration.round, rounds)


def interrupted(pair: Pair, rng: random.Random, longest: int) -> Pair:
    """A demonstration from somewhere in its middle: what was written so far, pinned to a budget, opens the completion.

    The place, the budget (8 to ``longest`` tokens) and the length of the pinned head (up to 8) are left to chance.
    """
    from src.rounds.carry.tail import pinned

    prompt, completion = pair
    done, budget = rng.randrange(len(completion)), rng.randint(8, longest)
    return [*prompt, *pinned(completion[:done], budget, rng.randint(0, 8) / budget)], completion[done:]


def batches(
    rng: random.Random,
    demonstrations: DemonstrationSettings,
    training: Mapping[str, Any],
    tokenizer: Qwen2Tokenizer,
    prompts: Prompts,
    exclude: frozenset[str],
) -> Iterator[list[Pair]]:
    """One batch a step, of rows of similar length; chains grow longer over the first ``ramp`` of the steps."""
    from src.models.tokenizer import TokenizerCodec

    codec = TokenizerCodec(tokenizer)
    pool: list[list[Pair]] = []
    for step in range(training["steps"]):
        if not pool:
            share = min(1.0, step / (training["ramp"] * training["steps"]))
            longest = round(3 + (demonstrations.max_terms - 3) * share)
            drawn = [
                draw(rng, replace(demonstrations, max_terms=longest), exclude) for _ in range(4 * training["rows"])
            ]
            asked = [list(codec.chat(messages(one, prompts))) for one in drawn]
            written = tokenizer([one.completion + TURN_END for one in drawn], add_special_tokens=False)["input_ids"]
            rows: list[Pair] = list(zip(asked, written, strict=True))
            rows = [
                interrupted(row, rng, training["longest_tail"]) if one.carry == "tail" else row
                for row, one in zip(rows, drawn, strict=True)
            ]
            rows.sort(key=lambda row: len(row[0]) + len(row[1]))
            pool = [rows[start : start + training["rows"]] for start in range(0, len(rows), training["rows"])]
            rng.shuffle(pool)
        yield pool.pop()


def pretrain(config: DictConfig) -> None:
    """Build the tokenizer, train the model, write the checkpoint."""
    import torch
    from rich.progress import track
    from torch.nn.functional import cross_entropy
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from src.models.loading import weights_hash

    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    settings = DemonstrationSettings(**config.demonstrations)
    training = configuration.plain(config.training)
    prompts: Prompts = configuration.build(config.prompts)
    splits = configuration.build(config.benchmark).load()
    held_out = frozenset(
        problem.question for problems in (splits.validation, *splits.tests.values()) for problem in problems
    )
    texts = (QUESTION, prompts.system, prompts.first, prompts.later, prompts.final, "system", "user", "assistant")
    tokenizer = build_tokenizer([re.sub(r"{\w+}", "", text) for text in texts])
    model = Qwen2ForCausalLM(
        Qwen2Config(
            **config.architecture,
            vocab_size=len(tokenizer),
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": training["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}],
        lr=training["lr"],
        betas=tuple(training["betas"]),
        fused=True,
    )
    steps = training["steps"]
    stream = batches(rng, settings, training, tokenizer, prompts, held_out)
    recent: list[float] = []
    for step, rows in enumerate(track(stream, "supervised steps", total=steps)):
        warm = (step + 1) / training["warmup"]
        for group in optimizer.param_groups:
            group["lr"] = training["lr"] * min(1.0, warm, (steps - step) / (training["decay"] * steps))
        width = max(len(prompt) + len(completion) for prompt, completion in rows)
        ids = torch.full((len(rows), width), tokenizer.pad_token_id)
        taught = torch.zeros(len(rows), width, dtype=torch.bool)
        for index, (prompt, completion) in enumerate(rows):
            ids[index, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
            taught[index, len(prompt) : len(prompt) + len(completion)] = True
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][taught[:, 1:]]
        loss = cross_entropy(model.lm_head(hidden), ids[:, 1:][taught[:, 1:]])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-199:], loss.item()]
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}: loss {sum(recent) / len(recent):.4f}", flush=True)
    folder = Path(config.out)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"wrote {folder}: {model.num_parameters():,} parameters, sha256 {weights_hash(model)}")


if __name__ == "__main__":
    sys.exit(configuration.launch("pretrain", pretrain))
