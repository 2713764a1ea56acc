"""Tiny random models of many families: those that are supported, and those that are refused before weights load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from src.models.settings import EMBEDDED

COMMON: dict[str, Any] = {
    "vocab_size": 329,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "max_position_embeddings": 512,
}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}  # names of sizes in older families
LOCAL = {"sliding_window": 256}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
LATENT = EXPERTS | {  # multi-head latent attention: keys and values of different sizes
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
LINEAR = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_hidden_layers": 4,
}

SUPPORTED: dict[str, dict[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "biogpt": {},
    "bitnet": {},
    "codegen": OLD | {"rotary_dim": 8},
    "cohere": {},
    "cohere2": LOCAL,
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "ernie4_5": {},
    "exaone4": LOCAL,
    "falcon": {},
    "gemma": {},
    "gemma2": LOCAL | {"head_dim": 8},
    "gemma3_text": LOCAL | {"head_dim": 8},
    "gemma4_text": LOCAL | {"head_dim": 8},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "glm4_moe": EXPERTS | {"head_dim": 8},
    "gpt2": OLD,
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": 256},
    "gpt_neox": {},
    "gpt_oss": EXPERTS | LOCAL | {"head_dim": 8},
    "gptj": OLD | {"rotary_dim": 8},
    "granite": {},
    "granitemoe": EXPERTS,
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "llama": {},
    "mistral": {},
    "mixtral": EXPERTS,
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": LOCAL,
    "olmoe": EXPERTS,
    "opt": {},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "qwen2": {},
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3": {},
    "qwen3_moe": EXPERTS,
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "xglm": {},
}

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "original_max_position_embeddings": 32,
    "factor": 8.0,
}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}, "ALiBi"),
    "falcon with ALiBi": ("falcon", {"alibi": True}, "ALiBi"),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4}, "ALiBi"),
    "jamba": ("jamba", {}, "linear_attention layers"),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"]}, "conv layers"),
    "llama4": ("llama4_text", EXPERTS | {"head_dim": 8, "intermediate_size_mlp": 48}, "chunked_attention layers"),
    "mamba": ("mamba", {}, "linear_attention layers"),
    "minimax": ("minimax", EXPERTS | {"head_dim": 8}, "linear_attention layers"),
    "qwen3_5": ("qwen3_5_text", LINEAR, "linear_attention layers"),
    "qwen3_next": ("qwen3_next", EXPERTS | LINEAR | {"shared_expert_intermediate_size": 16}, "linear_attention layers"),
    "rwkv": ("rwkv", {}, "recurrent state"),
    "a short window": ("mistral", {"sliding_window": 16}, "looks back 16 tokens, fewer than model.context=256"),
    "a short local layer": ("gemma3_text", {"head_dim": 8, "sliding_window": 64}, "looks back 64 tokens"),
    "dynamic NTK": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, "max_position_embeddings": 16},
        r"rotary embedding \(dynamic\) changes with the length of the batch beyond 16 tokens",
    ),
    "LongRoPE": (
        "phi3",
        {"rope_parameters": LONG_ROPE, "original_max_position_embeddings": 32, "sliding_window": None},
        r"rotary embedding \(longrope\) changes with the length of the batch beyond 32 tokens",
    ),
}


def save_architecture(folder: Path, family: str, settings: dict[str, Any]) -> Path:
    """Write a random model of ``family`` with the tokenizer of the embedded model to ``folder``."""
    config = AutoConfig.for_model(family, **{**COMMON, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(EMBEDDED / "tiny" / name, folder / name)
    return folder
