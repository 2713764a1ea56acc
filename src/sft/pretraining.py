"""Pretraining of the embedded model from scratch: tokenizer, architecture, and supervised batches of demonstrations."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from src.models.tokenizer import TokenizerCodec
from src.rounds.base import Carry
from src.rounds.carry.answer import Answer
from src.rounds.carry.history import History
from src.rounds.carry.memory import Memory
from src.rounds.carry.tail import pinned
from src.rounds.prompts import Prompts
from src.sft.demonstrations import QUESTION, Demonstration, Demonstrations, draw
from src.sft.settings import Pretraining
from src.types import Message, Sampling, Turn
from src.verifiers.tags import BOXED, TAGS

CARRIES: Mapping[str, Carry] = {"answer": Answer(), "history": History(), "memory": Memory()}
"""Carry rules of demonstrations, by name. The rule ``tail`` needs no prompt of later rounds and is not among them."""

Pair = tuple[list[int], list[int]]
"""Token ids of a prompt and of the completion to imitate."""

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] | replace(' + ', '+') | replace(' - ', '-') | replace(' =', '=') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen's chat template. It removes the spaces in sums, so that questions and progress write expressions alike."""


def build_tokenizer(texts: Sequence[str]) -> Qwen2Tokenizer:
    """Train a byte-level BPE tokenizer, which covers any text. Single tokens are the words of ``texts``, the
    protocol's tags, and each digit and sign."""
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
    """The prompt messages of a demonstration, from the same templates and carry rules as in rollouts."""
    lineage = [
        Turn((0,) * number, (), Sampling(1), text=text) for number, text in enumerate(demonstration.before, start=1)
    ]
    shown = None
    if lineage:
        shown = CARRIES[demonstration.carry].carry(lineage, prompts)
    rounds = demonstration.round if demonstration.final else 0
    return prompts.messages(demonstration.question, shown, demonstration.round, rounds)


def interrupted(pair: Pair, rng: random.Random, longest: int) -> Pair:
    """A demonstration continued from a random position, as with the carry rule ``tail``.

    The tokens before the position are truncated to a random budget (8 to ``longest`` tokens) with a pinned head of
    random length (up to 8), and become part of the prompt.
    """
    prompt, completion = pair
    done, budget = rng.randrange(len(completion)), rng.randint(8, longest)
    return [*prompt, *pinned(completion[:done], budget, rng.randint(0, 8) / budget)], completion[done:]


def batches(
    rng: random.Random,
    demonstrations: Demonstrations,
    training: Pretraining,
    tokenizer: Qwen2Tokenizer,
    prompts: Prompts,
    exclude: frozenset[str],
) -> Iterator[list[Pair]]:
    """Yield one batch per step, of rows of similar length. The maximum number of terms grows over the first ``ramp`` of
    the steps (curriculum)."""
    codec = TokenizerCodec(tokenizer)
    pool: list[list[Pair]] = []
    for step in range(training.steps):
        if not pool:
            share = min(1.0, step / (training.ramp * training.steps))
            longest = round(3 + (demonstrations.max_terms - 3) * share)
            drawn = [draw(rng, demonstrations.replace(max_terms=longest), exclude) for _ in range(4 * training.rows)]
            prompt_ids = [list(codec.chat(messages(one, prompts))) for one in drawn]
            completions = tokenizer([one.completion + TURN_END for one in drawn], add_special_tokens=False)["input_ids"]
            rows: list[Pair] = list(zip(prompt_ids, completions, strict=True))
            rows = [
                interrupted(row, rng, training.longest_tail) if one.carry == "tail" else row
                for row, one in zip(rows, drawn, strict=True)
            ]
            rows.sort(key=lambda row: len(row[0]) + len(row[1]))
            pool = [rows[start : start + training.rows] for start in range(0, len(rows), training.rows)]
            rng.shuffle(pool)
        yield pool.pop()


def build_model(architecture: Mapping[str, Any], tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """A Qwen2 model with random weights, with the vocabulary of ``tokenizer``."""
    return Qwen2ForCausalLM(
        Qwen2Config(
            **architecture,
            vocab_size=len(tokenizer),
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def words(prompts: Prompts) -> list[str]:
    """Texts of all prompts; their words are single tokens of the tokenizer."""
    texts = (QUESTION, prompts.system, prompts.first, prompts.later, prompts.final, "system", "user", "assistant")
    return [re.sub(r"{\w+}", "", text) for text in texts]


def build_optimizer(model: Qwen2ForCausalLM, training: Pretraining) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """AdamW with weight decay on matrices only, and a schedule with linear warm-up and linear decay to 0 at the end."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=training.lr,
        betas=(training.betas[0], training.betas[1]),
        fused=True,
    )

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / training.warmup, (training.steps - step) / (training.decay * training.steps))

    return optimizer, LambdaLR(optimizer, factor)


def loss(model: Qwen2ForCausalLM, pad: int, rows: Sequence[Pair]) -> Iterator[Tensor]:
    """Mean cross-entropy of the completion tokens, in one part."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(rows), width), pad)
    taught = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, (prompt, completion) in enumerate(rows):
        ids[index, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        taught[index, len(prompt) : len(prompt) + len(completion)] = True
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][taught[:, 1:]]
    yield cross_entropy(model.lm_head(hidden), ids[:, 1:][taught[:, 1:]])
