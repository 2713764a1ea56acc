"""A batched sampler over any transformers causal LM: shared prompts prefilled once, finished rows dropped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from src.engines.base import OnToken, Weights, padded_batches
from src.engines.sampling import draw, uniforms
from src.protocol import ANSWER_END
from src.records import Children, Status, Turn, Writer

COMPACT_BELOW = 0.75
"""Share of rows still writing under which the finished ones are dropped: below it, copying the cache costs less."""


class _Layer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer in a buffer with room to grow, so that a step appends without copying."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.length = room, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads, _, _ = key_states.shape
        self.keys = key_states.new_empty(rows, heads, self.room, key_states.shape[-1])
        self.values = value_states.new_empty(rows, heads, self.room, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.length

    def select(self, rows: Tensor, room: int) -> None:
        """Keep (or repeat) ``rows`` and make room for ``room`` positions."""
        assert self.keys is not None
        assert self.values is not None
        self.keys, self.values = self._moved(self.keys, rows, room), self._moved(self.values, rows, room)
        self.room = room

    def _moved(self, old: Tensor, rows: Tensor, room: int) -> Tensor:
        new = old.new_empty(len(rows), old.shape[1], room, old.shape[3])
        new[:, :, : self.length] = old[rows, :, : self.length]
        return new


class _Cache(Cache):  # type: ignore[misc]
    """One ``_Layer`` per layer of the model."""

    def __init__(self, layers: int, room: int) -> None:
        super().__init__(layers=[_Layer(room) for _ in range(layers)])

    def select(self, rows: Tensor, room: int) -> None:
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            layer.select(rows, room)


@dataclass
class TransformersEngine:
    """Writes turns with the model's own ``forward``.

    ``max_batch_tokens`` bounds the key-value cache: rows x (prompt + new tokens) of a batch stay under it.
    """

    weights: Weights
    max_batch_tokens: int = 65536

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        tokens = self.max_batch_tokens
        return [] if tokens > 0 else [f"engine.max_batch_tokens={tokens} must be 1 or more"]

    def __post_init__(self) -> None:
        self._closing: frozenset[int] | None = None

    @torch.inference_mode()
    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        waiting, finished = list(turns), []
        while waiting:
            waiting, wave = [], waiting
            for writer, batches in self._batches(wave):
                with self.weights.writing(writer) as model:
                    for batch in batches:
                        written = self._write(model, batch, on_token)
                        finished += written
                        waiting += [child for turn in written for child in children(turn)]
        return finished

    def _batches(self, turns: Sequence[Turn]) -> Iterator[tuple[Writer, list[list[Turn]]]]:
        """Turns of one writer, shortest prompts first, in batches whose padded cache fits the budget."""
        order = sorted(turns, key=lambda turn: (turn.writer, len(turn.prompt), turn.prompt))
        for writer, group in groupby(order, key=lambda turn: turn.writer):
            own = list(group)
            sizes = [(len(turn.prompt), turn.sampling.max_new_tokens) for turn in own]
            yield writer, [[own[i] for i in batch] for batch in padded_batches(sizes, self.max_batch_tokens)]

    def _write(self, model: Any, turns: Sequence[Turn], on_token: OnToken | None) -> list[Turn]:
        """Sample one batch to its end."""
        device = self.weights.device
        limits = torch.tensor([turn.sampling.max_new_tokens for turn in turns])
        steps = int(limits.max())
        random = uniforms([turn.stream for turn in turns], steps)
        temperature = torch.tensor([turn.sampling.temperature for turn in turns], device=device, dtype=torch.float64)
        top_p = torch.tensor([turn.sampling.top_p for turn in turns], device=device, dtype=torch.float64)
        ends = torch.tensor(sorted(self.weights.end_tokens))
        watches = any(turn.sampling.stop_at_answer for turn in turns)

        prompts = list(dict.fromkeys(turn.prompt for turn in turns))
        index = {prompt: row for row, prompt in enumerate(prompts)}
        rows = torch.tensor([index[turn.prompt] for turn in turns], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        cache = _Cache(model.config.num_hidden_layers, width)
        logits, valid = self._prefill(model, prompts, lengths, width, cache)
        cache.select(rows, width + steps - 1)
        logits, valid = logits[rows], valid[rows]
        valid = torch.cat([valid, valid.new_ones(len(turns), steps - 1)], dim=1)
        positions = lengths.to(device)[rows]

        tokens = torch.full((len(turns), steps), self.weights.pad_token)
        logprobs = torch.zeros(len(turns), steps, dtype=torch.float64)
        written = torch.zeros(len(turns), dtype=torch.long)
        done = torch.zeros(len(turns), dtype=torch.bool)
        live = torch.arange(len(turns))  # rows of the cache, as rows of the batch
        for step in range(steps):
            choice, logprob = draw(logits, temperature[live], top_p[live], random[live, step])
            new = choice.cpu()
            writing = ~done[live] & (step < limits[live])
            target = live[writing]
            tokens[target, step], logprobs[target, step] = new[writing], logprob.cpu().double()[writing]
            written[target] += 1
            if on_token is not None:
                for row in target.tolist():
                    on_token(turns[row], int(tokens[row, step]))
            ended = torch.isin(new, ends)
            if watches:
                ended |= self._closed(turns, tokens, written, live, new)
            done[live] |= ended & writing
            going = ~done[live] & (step + 1 < limits[live])
            if not bool(going.any()):
                break
            keep = going.nonzero()[:, 0]
            if len(keep) < COMPACT_BELOW * len(live):
                live, kept = live[keep], keep.to(device)
                cache.select(kept, width + steps - 1)
                valid, choice, positions = valid[kept], choice[kept], positions[kept]
            logits = model(
                input_ids=choice[:, None],
                attention_mask=valid[:, None, None, : width + step + 1],
                position_ids=(positions + step)[:, None],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
        return [self._finish(*row) for row in zip(turns, tokens, logprobs, written, done, strict=True)]

    def _prefill(
        self, model: Any, prompts: Sequence[tuple[int, ...]], lengths: Tensor, width: int, cache: _Cache
    ) -> tuple[Tensor, Tensor]:
        """Fill the cache with left-padded prompts: logits after the last token, and which columns are real."""
        device = self.weights.device
        ids = torch.full((len(prompts), width), self.weights.pad_token)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
        columns = torch.arange(width)
        valid = columns >= (width - lengths)[:, None]
        causal = columns[None, :] <= columns[:, None]
        # A padding query attends to itself: with nothing to attend to, its keys would turn into NaN.
        mask = (valid[:, None, :] & causal) | torch.eye(width, dtype=torch.bool)
        positions = (columns - (width - lengths)[:, None]).clamp_(min=0)
        output = model(
            input_ids=ids.to(device),
            attention_mask=mask[:, None].to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1], valid.to(device)

    def _closed(self, turns: Sequence[Turn], tokens: Tensor, written: Tensor, live: Tensor, new: Tensor) -> Tensor:
        """Which rows have just written the protocol's closing tag (and are told to stop there)."""
        codec = self.weights.codec
        if self._closing is None:  # tokens that can complete the tag
            size = getattr(codec, "size", 0)
            self._closing = frozenset(token for token in range(size) if ">" in codec.decode([token]))
        closed = torch.zeros(len(live), dtype=torch.bool)
        for place, (row, token) in enumerate(zip(live.tolist(), new.tolist(), strict=True)):
            if turns[row].sampling.stop_at_answer and token in self._closing:
                end = int(written[row])
                tail = codec.decode(tokens[row, max(0, end - len(ANSWER_END)) : end].tolist())
                closed[place] = ANSWER_END in tail
        return closed

    def _finish(self, turn: Turn, tokens: Tensor, logprobs: Tensor, written: Tensor, done: Tensor) -> Turn:
        """The turn with what was written in it."""
        count = int(written)
        completion = tuple(tokens[:count].tolist())
        shown = completion[:-1] if completion and completion[-1] in self.weights.end_tokens else completion
        numbers = tuple(logprobs[:count].tolist())
        if not all(math.isfinite(number) for number in numbers):
            raise FloatingPointError(
                "the model produced a log-prob that is not finite: its weights have diverged (lower optimizer.lr or "
                "train.max_grad_norm) or overflow in this dtype (model.dtype)"
            )
        return replace(
            turn,
            status=Status.DONE if done else Status.TRUNCATED,
            completion=completion,
            logprobs=numbers,
            text=self.weights.codec.decode(shown),
        )
