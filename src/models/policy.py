"""The policy: the causal LM that is trained, its weights for generation, and log-probs of completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.models import attention
from src.models.lora import adapted_weights, mergeable
from src.models.packing import Layout, layout
from src.models.sharding import Shards
from src.models.tokenizer import TokenizerCodec
from src.models.weights import load_weights, weights_hash, write_weights
from src.types import Row, Writer

LOGITS_AT_ONCE = 2**24
"""Number of logits computed at a time (64 MB in fp32), so that memory does not grow with tokens x vocabulary."""


class Policy:
    """The trained causal LM (a LoRA adapter, or all weights). It can also run with its starting weights, the base.

    ``start`` is a copy of ``parameters()`` at the start of the run. A freshly added adapter needs none: without
    ``start``, the base is the model with the adapter disabled.
    """

    def __init__(
        self, model: Any, codec: TokenizerCodec, base_hash: str, start: Sequence[Tensor] | None = None
    ) -> None:
        self.model, self.codec, self.base_hash, self.start = model, codec, base_hash, start
        self.device = next(model.parameters()).device
        ends = codec.ends(model.generation_config.eos_token_id if model.generation_config is not None else None)
        self.end_token, self.end_tokens = ends[0], frozenset(ends)  # the first one is appended to demonstrations
        pad = codec.tokenizer.pad_token_id
        self.pad_token = pad if pad is not None else min(self.end_tokens)
        self.model.eval()  # no dropout, so that trained log-probs equal sampled ones
        self._shares = attention.install(self._causal)
        self._adapters = adapted_weights(model)
        self.merges = mergeable(self._adapters, self._causal)  # whether generation merges the adapter into the weights
        self._shards: Shards | None = None
        self._forward: Callable[..., tuple[Tensor, Tensor]] = self._pass

    def shard(self, replicas: int, shards: int) -> None:
        """Shard the weights over processes (see ``Shards``). Called once, by all processes together."""
        self._shards = Shards(self.model, self._causal, replicas, shards)
        self._forward = self._shards.entered(self._pass)

    @property
    def sharded(self) -> bool:
        """Whether the weights are sharded. All processes must then make the same passes in the same order."""
        return self._shards is not None

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Hold the whole weights in every process until the context closes; all enter together. For generation."""
        with nullcontext() if self._shards is None else self._shards.gathered():
            if self.sharded:
                self._adapters = adapted_weights(self.model)
            yield

    def reset(self) -> None:
        """Free gathered weights after a pass whose backward pass is given up."""
        if self._shards is not None:
            self._shards.reset()

    @property
    def adapted(self) -> bool:
        """Whether a LoRA adapter is trained instead of all weights."""
        return isinstance(self.model, PeftModel)

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def trained_hash(self) -> str:
        """SHA-256 over the current values of the trainable parameters."""
        with self.gathered():
            return weights_hash(parameter for parameter in self.model.named_parameters() if parameter[1].requires_grad)

    def write(self, folder: Path) -> None:
        """Save the adapter in PEFT's layout, or the whole model with its tokenizer if all weights are trained.

        Sharded weights are written inside ``gathered``.
        """
        write_weights(self.model, self.codec.tokenizer, folder, self._shards.state() if self._shards else None)

    def save(self, folder: Path) -> None:
        """Save to the subfolder ``adapter`` of ``folder``, or ``model`` if all weights are trained."""
        self.write(folder / ("adapter" if self.adapted else "model"))

    def load(self, folder: Path) -> None:
        """Load the weights that ``save`` wrote. Raises ``InputError`` if they do not fit the model."""
        load_weights(self.model, folder)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Use the starting weights until the context closes."""
        if self.start is None:
            if not self.adapted:
                raise ValueError("the starting weights were not kept; load the policy with keep_start=True")
            with self.model.disable_adapter():
                yield
            return
        now = [parameter.data for parameter in self.parameters()]
        try:
            for parameter, value in zip(self.parameters(), self.start, strict=True):
                parameter.data = value
            yield
        finally:
            for parameter, value in zip(self.parameters(), now, strict=True):
                parameter.data = value

    @contextmanager
    def writing(self, writer: Writer) -> Iterator[Any]:
        """The causal LM for generation as ``writer`` until the context closes: the base, or the policy.

        The policy's adapter is merged into the weights, so that its product is added once instead of at every step.
        The weights are restored from a copy, bit for bit. Half-precision weights would round small products away and
        4-bit weights cannot store them, so there the adapter stays unmerged.
        """
        base = writer == Writer.BASE
        with self.as_base() if base else nullcontext():
            if not self.adapted:
                yield self.model
            elif (base and self.start is None) or not self.merges:
                yield self.model.get_base_model()
            else:
                with self._merged():
                    yield self.model.get_base_model()

    @contextmanager
    def _merged(self) -> Iterator[None]:
        """Merge the adapter into the weights and disable it, until the context closes."""
        saved: list[tuple[Tensor, Tensor]] = []
        with self.model.disable_adapter():
            try:
                for layer, parameter in self._adapters:
                    weight = parameter.data
                    saved.append((weight, weight.clone()))
                    weight += layer.get_delta_weight("default").to(weight.dtype)
                yield
            finally:
                for weight, original in saved:
                    weight.copy_(original)

    @property
    def attention(self) -> float:
        """Cost of attending to one sibling token, as a fraction of the other work on a token outside the head."""
        return 0.0 if self._shares else attention.relative_cost(self._causal)

    @property
    def _causal(self) -> Any:
        return self.model.get_base_model() if self.adapted else self.model

    def completion_logprobs(
        self, packs: Sequence[Sequence[Row]], base: bool = False, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probs of completion tokens at each row's temperature, the entropy of their distributions, and the mask of
        trained tokens, all ``[rows, tokens]``, with rows in the order of ``packs``.

        One forward pass; the head is applied only to positions that predict a completion token. ``base`` uses the
        starting weights (the KL reference).
        """
        plan, device = layout(packs, self.pad_token), self.device
        temperature = torch.tensor([row.temperature for pack in packs for row in pack], dtype=torch.float64)
        with self.as_base() if base else nullcontext(), self.in_its_precision():
            logprobs, entropy = self._forward(plan, temperature[plan.row].to(device), entropy_gradient)
        row, step = plan.row.to(device), plan.step.to(device)
        shape = (plan.rows, plan.steps)
        mask = torch.zeros(shape, dtype=torch.bool, device=device).index_put((row, step), plan.trained.to(device))
        return (
            logprobs.new_zeros(shape).index_put((row, step), logprobs),
            entropy.new_zeros(shape).index_put((row, step), entropy),
            mask,
        )

    def _pass(self, plan: Layout, temperature: Tensor, entropy_gradient: bool) -> tuple[Tensor, Tensor]:
        """Log-probs and entropies of the completion tokens, ``[tokens]``: the body, then the head."""
        device = self.device
        sharing = {"shared": attention.pieces(plan.spans, self.model.dtype)} if self._shares else {}
        hidden = body(self._causal)(
            input_ids=plan.ids.to(device),
            attention_mask=attention.mask_for(self.model, plan.visible.to(device)),
            position_ids=plan.positions.to(device),
            use_cache=False,
            **sharing,
        ).last_hidden_state[plan.sequence.to(device), plan.place.to(device)]
        logits = partial(head, self._causal)
        return token_logprobs(hidden, logits, plan.targets.to(device), temperature, entropy_gradient)

    @contextmanager
    def in_its_precision(self) -> Iterator[None]:
        """With half-precision weights, run the float32 adapter in half precision, as in generation."""
        dtype = self.model.dtype
        if dtype not in (torch.bfloat16, torch.float16):
            yield
            return
        with torch.autocast(self.device.type, dtype), disable_input_dtype_casting(self.model):
            yield


def token_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    tokens: Tensor,
    temperature: Tensor,
    entropy_gradient: bool = False,
    at_once: int = LOGITS_AT_ONCE,
) -> tuple[Tensor, Tensor]:
    """Log-prob of each token under softmax(head(hidden) / temperature), and the entropy of that distribution.

    ``hidden`` is ``[tokens, width]`` (row t predicts token t); ``tokens``, ``temperature`` and both results are
    ``[tokens]``. The entropy has a gradient only with ``entropy_gradient``. Logits are computed for ``at_once /
    vocabulary`` tokens at a time and not stored: with a frozen head the gradient is computed in the forward pass,
    otherwise logits are recomputed in the backward pass (unless there is only one piece).
    """
    probe = head(hidden[:1].detach())
    pieces = [torch.split(part, max(1, at_once // probe.shape[-1])) for part in (hidden, tokens, temperature)]
    if not (probe.requires_grad or entropy_gradient):
        parts = [_FrozenHead.apply(head, *inputs) for inputs in zip(*pieces, strict=True)]  # type: ignore[no-untyped-call]
    elif len(pieces[0]) == 1:
        parts = [_plain(entropy_gradient, head, hidden, tokens, temperature)]
    else:
        parts = [
            checkpoint(_plain, entropy_gradient, head, *inputs, use_reentrant=False)
            for inputs in zip(*pieces, strict=True)
        ]
    return torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts])


def _plain(
    entropy_gradient: bool, head: Callable[[Tensor], Tensor], hidden: Tensor, tokens: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    logprobs = _scaled(head(hidden), temperature).log_softmax(-1)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(-1, tokens[:, None])[:, 0], entropy


def _scaled(logits: Tensor, temperature: Tensor) -> Tensor:
    """Logits divided by temperature, in float32 or float64."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return logits if bool((temperature == 1).all()) else logits / temperature[:, None].to(logits.dtype)


class _FrozenHead(torch.autograd.Function):
    """``token_logprobs`` with a frozen head: the gradient is computed in the forward pass, so no logits are stored.

    d log p(token) / d logits = (1[token] - p) / temperature.
    """

    @staticmethod
    def forward(
        ctx: Any, head: Callable[[Tensor], Tensor], hidden: Tensor, tokens: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        leaf = hidden.detach().requires_grad_(ctx.needs_input_grad[1])
        with torch.set_grad_enabled(ctx.needs_input_grad[1]):
            logits = head(leaf)
        scaled = _scaled(logits.detach(), temperature)
        top = scaled.amax(-1, keepdim=True)
        shifted = scaled - top if scaled.dtype == logits.dtype else scaled.sub_(top)
        chosen = shifted.gather(-1, tokens[:, None])[:, 0]
        weights = shifted.exp()
        total = weights.sum(-1)
        entropy = total.log() - torch.linalg.vecdot(weights, shifted) / total
        if ctx.needs_input_grad[1]:
            rate = temperature.to(weights.dtype).reciprocal()
            slope = weights.mul_((-rate / total)[:, None])
            slope[torch.arange(len(tokens), device=tokens.device), tokens] += rate
            ctx.save_for_backward(*torch.autograd.grad(logits, leaf, slope.to(logits.dtype)))
        ctx.mark_non_differentiable(entropy)
        return chosen - total.log(), entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return None, (gradients[0][:, None] * slope).to(slope.dtype), None, None


def body(model: Any) -> Any:
    """The part of a causal LM that computes hidden states."""
    return getattr(model, model.base_model_prefix)


def head(model: Any, hidden: Tensor) -> Tensor:
    """Logits of the last hidden states, with the model's own scaling and soft-capping."""
    config = model.config
    logits: Tensor = model.get_output_embeddings()(hidden)
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits / getattr(config, "logits_scaling", 1.0) * getattr(config, "logit_scale", 1.0)  # Granite, Cohere
