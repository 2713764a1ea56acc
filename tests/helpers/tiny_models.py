"""A tiny random Qwen2 with a character tokenizer, for tests that need a real model but no skill."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from src.models.loading import load_policy
from src.models.policy import Policy
from src.models.settings import Lora, ModelSettings
from src.types import Row

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789 \n<>/!"
PIECES = ("</", "er>", ">!")
"""Tokens that hold a part of the closing tag."""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer() -> Qwen2Tokenizer:
    """One token a character; ``PIECES`` have ids too, though plain text is never encoded with them."""
    bytes_ = [{" ": "Ġ", "\n": "Ċ"}.get(character, character) for character in CHARACTERS]
    vocabulary = {token: index for index, token in enumerate((PAD, START, END, *bytes_, *PIECES))}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], eos_token=END, pad_token=PAD, extra_special_tokens=[START])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def save_tiny(folder: Path, seed: int = 0, **shape: int) -> Path:
    """Write a random checkpoint to ``folder``; ``shape`` changes its configuration."""
    tokenizer = tiny_tokenizer()
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            **{
                "vocab_size": len(tokenizer),
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 256,
                "initializer_range": 0.25,
                "tie_word_embeddings": False,
                "bos_token_id": None,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            }
            | shape
        )
    )
    torch.set_rng_state(state)
    model.lm_head.weight.data[tokenizer.eos_token_id] *= 2  # so that a good part of the turns end by themselves
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_config(folder: Path, dtype: str = "float32") -> ModelSettings:
    return ModelSettings(
        name=str(folder), context=128, round_tokens=32, dtype=dtype, device="cpu", lora=Lora(r=4, alpha=8)
    )


def tiny_policy(folder: Path, dtype: str = "float32", seed: int = 0, adapt: bool = True) -> Policy:
    """The checkpoint in ``folder`` with LoRA; ``adapt`` makes the adapter do something."""
    policy = load_policy(tiny_config(folder, dtype), seed)
    return adapted(policy, seed=seed + 1) if adapt else policy


def adapted(policy: Policy, scale: float = 0.1, seed: int = 1) -> Policy:
    """The policy with its adapter's B matrices, which begin as zeros, filled at random."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(scale * values)
    return policy


def random_tokens(rng: random.Random, count: int) -> tuple[int, ...]:
    """Ids of ``count`` characters; no special token."""
    return tuple(rng.randrange(3, 3 + len(CHARACTERS)) for _ in range(count))


def random_rows(seed: int, lengths: list[tuple[int, int]], advantages: list[float] | None = None) -> list[Row]:
    """One row for each (prompt, completion) length, with its own temperature and weight."""
    rng = random.Random(seed)
    return [
        Row(
            prompt=random_tokens(rng, prompt),
            completion=random_tokens(rng, completion),
            logprobs=(-3.0,) * completion,
            temperature=rng.choice((0.5, 1.0, 1.25)),
            advantage=advantages[index] if advantages is not None else rng.uniform(-2, 2),
            weight=rng.choice((0.25, 0.5, 1.0)),
            tree=0,
            path=(index,),
        )
        for index, (prompt, completion) in enumerate(lengths)
    ]


def plain_logprobs(
    policy: Policy, prompt: tuple[int, ...], completion: tuple[int, ...], temperature: float, base: bool = False
) -> torch.Tensor:
    """Log-probs of a completion by one forward pass without cache, padding or merging."""
    ids = torch.tensor([prompt + completion])
    if base:
        with policy.model.disable_adapter():
            logits = policy.model(input_ids=ids, use_cache=False).logits
    else:
        logits = policy.model(input_ids=ids, use_cache=False).logits
    distribution = (logits[0, len(prompt) - 1 : -1] / (temperature or 1.0)).log_softmax(-1)
    return distribution.gather(-1, torch.tensor(completion)[:, None])[:, 0]


@contextmanager
def kept_for_backward() -> Iterator[list[torch.Tensor]]:
    """The tensors that autograd keeps of what is computed inside, held so that each address stays its own."""
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
