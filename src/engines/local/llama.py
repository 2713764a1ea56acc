"""Fast decoder for the Llama architecture (RMSNorm, rotary positions, grouped-query attention, SwiGLU): Llama, Qwen2.

It computes the same function as the model's own ``forward`` with a third of the torch operations: projections of the
same input are fused into one product, keys and values are not repeated over their query group, and arguments are not
validated again in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, rms_norm, silu

from src.engines.local.cache import Cache, KeysValues, Prefix, PromptAttention, turned
from src.engines.local.native import Kernels

MODELS = {"LlamaForCausalLM", "Qwen2ForCausalLM"}
ROPES = {"default", "linear", "llama3", "yarn"}
"""Types of rotary embedding whose angles do not depend on the sequence length."""

LARGEST = 8 * 2**30
"""Largest model in bytes that this decoder is used for: it holds a second copy of the weights."""


class _Linear:
    """Several linear layers of the same input, fused into one product (e.g. q, k and v).

    On a CPU in float32 or bfloat16, the weight is packed for the compiled kernels, or else for oneDNN.
    """

    def __init__(self, *modules: Any, kernels: Kernels | None) -> None:
        bare = [_bare(module) for module in modules]
        self.weight: Tensor = (
            bare[0].weight.data if len(bare) == 1 else torch.cat([layer.weight.data for layer in bare])
        )
        zeros = (self.weight.new_zeros(layer.out_features) for layer in bare)
        biases = [zero if layer.bias is None else layer.bias.data for layer, zero in zip(bare, zeros, strict=True)]
        self.bias = torch.cat(biases) if any(layer.bias is not None for layer in bare) else None
        packable = self.weight.device.type == "cpu" and self.weight.dtype in (torch.float32, torch.bfloat16)
        self.packed = packable and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        self.adapter = _Adapter(modules, self.weight) if any(map(_adapted, modules)) else None
        self.kernels = kernels if kernels is not None and kernels.multiplies(self.weight) else None
        if self.kernels is not None:
            self.weight = self.kernels.packed(self.weight)
        elif self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: Tensor, kernels: Kernels | None = None) -> Tensor:
        """With ``kernels``, the adapter's products are compiled too. This pays for a few rows (decoding), where the
        overhead of torch calls dominates."""
        if self.kernels is not None:
            product = self.kernels.multiply(x, self.weight, self.bias)
        elif self.packed:
            product = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        else:
            product = linear(x, self.weight, self.bias)
        if self.adapter is None:
            return product
        return self.adapter.add(x, product) if kernels is None else self.adapter.add_compiled(x, product, kernels)


class _Adapter:
    """The unmerged LoRA products of several linear layers that read the same input."""

    def __init__(self, modules: Sequence[Any], like: Tensor) -> None:
        def none(module: Any) -> tuple[Tensor, Tensor]:
            return like.new_zeros(0, module.in_features), like.new_zeros(module.out_features, 0)

        pairs = [_low_rank(module) if _adapted(module) else none(module) for module in modules]
        pairs = [(down.to(like.dtype), up.to(like.dtype)) for down, up in pairs]
        # For torch: one product with all A matrices, one with the scaled B matrices as a block diagonal.
        self.down = torch.cat([down for down, _ in pairs])
        self.up: Tensor = torch.block_diag(*(up for _, up in pairs))  # type: ignore[no-untyped-call]
        # The same matrices in the layout of the compiled kernel.
        self.columns = self.down.T.contiguous()
        self.rows = torch.cat([up.T.flatten() for _, up in pairs])
        self.sizes = torch.tensor([(len(down), len(up)) for down, up in pairs]).T.contiguous()

    def add(self, x: Tensor, product: Tensor) -> Tensor:
        return product.add_(linear(linear(x, self.down), self.up))

    def add_compiled(self, x: Tensor, product: Tensor, kernels: Kernels) -> Tensor:
        return kernels.low_rank(x, self.columns, self.rows, self.sizes, product)


class _Layer:
    """The weights of one decoder layer: fused projections and the two norms."""

    def __init__(self, layer: Any, kernels: Kernels | None) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = _Linear(attention.q_proj, attention.k_proj, attention.v_proj, kernels=kernels)
        self.out = _Linear(attention.o_proj, kernels=kernels)
        self.gate_up = _Linear(mlp.gate_proj, mlp.up_proj, kernels=kernels)
        self.down = _Linear(mlp.down_proj, kernels=kernels)
        self.before, self.after = layer.input_layernorm.weight, layer.post_attention_layernorm.weight


class _Residual:
    """The residual stream ``[rows, size]``: float32 with compiled kernels, else the model's dtype."""

    def __init__(self, x: Tensor, epsilon: float, kernels: Kernels | None) -> None:
        self.x = x if kernels is None else x.float()
        self.epsilon, self.kernels = epsilon, kernels

    def normed(self, delta: Tensor | None, weight: Tensor) -> Tensor:
        """Add ``delta`` to the stream in place, then return the RMSNorm of the stream."""
        if self.kernels is not None:
            out = torch.empty(self.x.shape, dtype=weight.dtype)
            return self.kernels.norm(delta, self.x, weight, self.epsilon, out)
        if delta is not None:
            self.x += delta
        return rms_norm(self.x, weight.shape, weight, self.epsilon)

    def of(self, rows: Tensor) -> _Residual:
        """A copy of the given rows."""
        return _Residual(self.x[rows], self.epsilon, self.kernels)


def _swiglu(gate_up: Tensor, kernels: Kernels | None) -> Tensor:
    """SwiGLU (arXiv 2002.05202); ``gate_up`` ``[rows, 2 size]`` holds the gate and up projections side by side."""
    if kernels is not None:
        return kernels.swiglu(gate_up, gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2))
    gate, up = gate_up.chunk(2, dim=-1)
    return silu(gate).mul_(up)


def _bare(module: Any) -> Any:
    """The base layer of an adapted module, or the module itself."""
    return getattr(module, "base_layer", module)


def _adapted(module: Any) -> bool:
    """Whether the module has an adapter that is enabled and not merged."""
    return not getattr(module, "disable_adapters", True) and not module.merged


def _low_rank(module: Any) -> tuple[Tensor, Tensor]:
    """The LoRA matrices of a module (arXiv 2106.09685): A, and B times the scale."""
    (name,) = module.active_adapters
    return module.lora_A[name].weight.data, module.lora_B[name].weight.data * module.scaling[name]


def _plain_lora(module: Any) -> bool:
    """Whether the module is a linear layer with one plain LoRA adapter: no variant, bias or dropout."""
    return (
        isinstance(module, LoraLinear)
        and type(module.base_layer) is nn.Linear
        and len(module.active_adapters) == 1
        and not module.lora_variant
        and not module.lora_bias[module.active_adapters[0]]
        and isinstance(module.lora_dropout[module.active_adapters[0]], nn.Identity)
    )


class LlamaDecoder:
    """Decoder of a Llama-architecture model. Valid only while the model's weights do not change: some are copied."""

    continues = True

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether the model is supported: Llama architecture, plain linear layers, at most ``LARGEST`` bytes."""
        if type(model).__name__.removeprefix("FSDP") not in MODELS:  # the prefix of sharded models
            return False
        config = model.config
        linears = [_bare(module) for name, module in model.model.named_modules() if name.endswith("_proj")]
        return (
            config.hidden_act == "silu"
            and config.rope_parameters["rope_type"] in ROPES
            and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
            and all(type(module) is nn.Linear for module in [*linears, _bare(model.lm_head)])
            and all(_plain_lora(module) for module in model.modules() if _adapted(module))
            and sum(weight.numel() * weight.element_size() for weight in model.parameters()) <= LARGEST
        )

    def __init__(self, model: Any, kernels: Kernels | None = None) -> None:
        config = model.config
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.epsilon: float = config.rms_norm_eps
        self.rotary = model.model.rotary_emb
        self.embedding: Tensor = _bare(model.model.embed_tokens).weight
        self.dtype = self.embedding.dtype
        self.layers = [_Layer(layer, kernels) for layer in model.model.layers]
        self.norm: Tensor = model.model.norm.weight
        self.head = _Linear(model.lm_head, kernels=kernels)
        self.cos = self.sin = self.embedding.new_empty(0)
        self.kernels = kernels
        # Transposed keys are faster with compiled kernels and with torch in half precision, but not in float32.
        self.transposed = kernels is not None or self.dtype in (torch.bfloat16, torch.float16)

    def prefill(
        self, ids: Tensor, lengths: Sequence[int], prefixes: Sequence[Prefix | None]
    ) -> tuple[Tensor, list[KeysValues]]:
        # In float32, torch's own operations are as fast as the compiled kernels.
        kernels = self.kernels if self.dtype == torch.bfloat16 else None
        reads = kernels is not None and kernels.reads(self.dtype, self.size)
        attend = PromptAttention(lengths, prefixes, self._angles(max(lengths)), self.groups, kernels if reads else None)
        residual = _Residual(embedding(ids[attend.new], self.embedding), self.epsilon, kernels)
        delta, cached = None, []
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(residual.normed(delta, layer.before)).view(len(attend.new), -1, self.size)
            mixed, keys_values = attend(qkv, index)
            cached.append(keys_values)
            if layer is self.layers[-1]:  # after the last attention, only the last token of each prompt is needed
                mixed, residual = mixed[attend.ends], residual.of(attend.ends)
            gate_up = layer.gate_up(residual.normed(layer.out(mixed), layer.after))
            delta = layer.down(_swiglu(gate_up, kernels))
        return self.head(residual.normed(delta, self.norm)), cached

    def step(self, tokens: Tensor, positions: Tensor, cache: Cache, column: int, mask: Tensor) -> Tensor:
        if self.kernels is not None:
            return self._native_step(self.kernels, tokens, positions, cache, column)
        rows, end = mask.shape
        group = self.heads // self.groups
        cos, sin = (table[positions][:, None] for table in self._angles(cache.width))
        bias = mask[:, None, None].expand(rows, self.groups, group, end).reshape(-1, group, end)
        residual, delta = _Residual(embedding(tokens, self.embedding), self.epsilon, None), None
        for layer, (keys, values) in zip(self.layers, cache.layers, strict=True):
            qkv = layer.qkv(residual.normed(delta, layer.before)).view(rows, -1, self.size)
            queries_keys = turned(qkv[:, : -self.groups], cos, sin)
            keys[:rows, :, column] = queries_keys[:, self.heads :]
            values[:rows, :, column] = qkv[:, -self.groups :]
            scores = torch.baddbmm(
                bias,
                queries_keys[:, : self.heads].reshape(-1, group, self.size),
                keys[:rows].flatten(0, 1)[:, :end].transpose(1, 2),
                alpha=self.size**-0.5,
            )
            mixed = torch.bmm(scores.softmax(-1), values[:rows].flatten(0, 1)[:, :end])
            gate_up = layer.gate_up(residual.normed(layer.out(mixed.view(rows, -1)), layer.after))
            delta = layer.down(_swiglu(gate_up, None))
        return self.head(residual.normed(delta, self.norm))

    def _native_step(self, kernels: Kernels, tokens: Tensor, positions: Tensor, cache: Cache, column: int) -> Tensor:
        rows = len(tokens)
        cos, sin = self._angles(cache.width)
        angles = cos.float(), sin.float()
        residual, delta = _Residual(embedding(tokens, self.embedding), self.epsilon, kernels), None
        mixed = torch.empty(rows, self.heads, self.size, dtype=self.dtype)
        for layer, (keys, values) in zip(self.layers, cache.layers, strict=True):
            qkv = layer.qkv(residual.normed(delta, layer.before), kernels)
            kernels.attend(qkv, angles, positions, keys, values, column, mixed)
            gate_up = layer.gate_up(residual.normed(layer.out(mixed.view(rows, -1), kernels), layer.after), kernels)
            delta = layer.down(_swiglu(gate_up, kernels), kernels)
        return self.head(residual.normed(delta, self.norm))

    def _angles(self, length: int) -> tuple[Tensor, Tensor]:
        """Rotary cosines and signed sines ``[positions, head size]`` up to ``length``, from the model's own module.

        The sines of the first half of a head are negated, as ``turned`` expects.
        """
        if len(self.cos) < length:
            positions = torch.arange(length, device=self.embedding.device)[None]
            cos, sin = self.rotary(self.embedding[:1], positions)
            self.cos = cos[0]
            self.sin = torch.cat([-sin[0, :, : self.size // 2], sin[0, :, self.size // 2 :]], dim=-1)
        return self.cos, self.sin
