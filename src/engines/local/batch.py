"""Continuous batching: turns are decoded together, and a finished row is reused by a waiting turn.

Time is counted in decoding steps, and all rows write one token per step. A token's column in every table is its time
modulo the table's width (a ring buffer), so a step reads and writes whole columns whatever the rows' lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.engines.base import Weights, diverged
from src.engines.local.cache import Cache, Decoder, Draw, Prefixes
from src.models.packing import padded_batches
from src.types import OnToken, Status, Turn
from src.verifiers.tags import ANSWER_END

PREFILL = 8192
"""Prompt tokens per prefill pass, padding included."""

PATIENCE = 0.25
"""Admission cost as a fraction of a decode step; turns are admitted once idle slots have wasted more than this."""

PREFIXES = 1 / 8
"""Tokens of the prefix cache, as a fraction of the batch's token budget."""

SPARE = 1.25
"""Width of a cache that has to grow, as a multiple of the tokens of its longest turn."""

COMPACT_BELOW = 0.9
"""Fraction of live rows below which finished rows are removed, once no waiting turn can use them."""


def need(turn: Turn) -> int:
    """Columns (tokens) that a turn can take at most: its prompt and its new tokens."""
    return len(turn.prompt) + turn.sampling.max_new_tokens


def uniforms(stream: int, count: int) -> NDArray[np.float64]:
    """``count`` uniform random numbers in [0, 1) that depend on ``stream`` alone (Philox generator)."""
    return np.random.Generator(np.random.Philox(key=stream)).random(count)


class Batch:
    """The turns of one writer that are being decoded.

    Rows x columns of the KV cache stay within ``budget`` tokens, except for a single row that exceeds it alone; the
    prefix cache takes ``PREFIXES`` x ``budget`` more. ``closing`` are the tokens that can complete ``</answer>``.
    """

    def __init__(self, decoder: Decoder, draw: Draw, weights: Weights, closing: NDArray[np.int64], budget: int) -> None:
        self.decoder, self.draw, self.weights, self.closing, self.budget = decoder, draw, weights, closing, budget
        self.device = weights.device
        self.cache = Cache(decoder.transposed)
        self.prefixes = Prefixes(int(PREFIXES * budget) if decoder.continues else 0)
        self.turns: list[Turn | None] = []  # the turn of each row; None where the row is free
        self.time = self.end = 0  # current time; number of columns in use
        self.logits = torch.empty(0)
        self.debt, self.ready = 0, -1  # idle slots x steps since the last admission; turns that fit now (-1: unknown)
        self.ends = np.fromiter(weights.end_tokens, dtype=np.int64)
        # Per row: the times of the first prompt token, of the first new token, and of the token limit.
        self.origin, self.start, self.deadline = (np.zeros(0, dtype=np.int64) for _ in range(3))
        self.live, self.watched = np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int8)  # 1: at </answer>, 2: elsewhere
        self.random = np.zeros((0, 1))  # [row, index of the new token]; the tables below are [row, column]
        self.tokens = np.zeros((0, 1), dtype=np.int64)
        self.logprobs, self.model_logprobs = np.zeros((0, 1)), np.zeros((0, 1))
        self.temperature, self.top_p = (torch.ones(0, dtype=torch.float64, device=self.device) for _ in range(2))
        self.mask = torch.zeros(0, 1, dtype=decoder.dtype, device=self.device)

    @property
    def writing(self) -> int:
        """Number of unfinished rows."""
        return int(self.live.sum())

    # rows in

    def admit(self, queue: list[Turn]) -> None:
        """Take turns from the front of ``queue`` (shortest first) if there is room and a prefill is worth its cost."""
        if self.ready < 0:
            self.ready = self._room(queue)
        self.debt += self.ready
        writing = self.writing
        if not self.ready or self.debt < PATIENCE * writing:
            return
        turns, queue[: self.ready] = queue[: self.ready], []
        self.debt, self.ready = 0, -1
        width = max(need(turn) for turn in turns)
        longest = max(len(turn.prompt) for turn in turns)
        rows = writing + len(turns)
        if not writing or width > self.cache.width or rows > self.cache.capacity:
            if writing:  # grow with spare room: copying the cache again costs more than unused columns
                if width > self.cache.width:
                    width = max(width, min(int(SPARE * width), self.budget // rows))
                width = max(width, self.cache.width)
                capacity = max(rows, min(2 * self.cache.capacity, self.budget // width))
            else:
                capacity = rows
            self._resize(capacity, width, longest)
        if longest > self.time:
            self.end = self.cache.width
        free = [row for row, turn in enumerate(self.turns) if turn is None][: len(turns)]
        places = [*free, *range(len(self.turns), len(self.turns) + len(turns) - len(free))]
        self.turns += [None] * (len(turns) - len(free))
        for place, turn in zip(places, turns, strict=True):
            self._open(place, turn)
        self._prefill(turns, places)

    def _room(self, queue: Sequence[Turn]) -> int:
        """How many turns from the front of ``queue`` fit into the budget beside the unfinished rows."""
        rows = self.writing
        width = self.cache.width if rows else 0
        for count, turn in enumerate(queue):
            width = max(width, need(turn))
            if rows + count and (rows + count + 1) * width > self.budget:
                return count
        return len(queue)

    def _resize(self, capacity: int, width: int, time: int) -> None:
        """Reallocate the cache and all tables as ``[capacity, width]``, with the live rows in front. The current time
        becomes ``time``, or later if the longest live row has more tokens than that."""
        rows = np.flatnonzero(self.live)
        past = int((self.time - self.origin[rows]).max(initial=0))
        time, shift = max(time, past), self.time - max(time, past)
        source, target = np.arange(self.time - past, self.time) % max(1, self.cache.width), np.arange(time - past, time)
        self.cache.resize(
            capacity, width, *(torch.from_numpy(index).to(self.device) for index in (rows, source, target))
        )

        def grown(old: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([old[rows], np.zeros((capacity - len(rows), *old.shape[1:]), dtype=old.dtype)])

        def moved(old: NDArray[Any]) -> NDArray[Any]:
            new = np.zeros((capacity, width), dtype=old.dtype)
            new[: len(rows), target] = old[rows][:, source]
            return new

        self.live, self.watched, self.random = grown(self.live), grown(self.watched), grown(self.random)
        self.origin, self.start, self.deadline = (
            grown(old - shift) for old in (self.origin, self.start, self.deadline)
        )
        self.tokens, self.logprobs = moved(self.tokens), moved(self.logprobs)
        self.model_logprobs = moved(self.model_logprobs)
        index = torch.from_numpy(rows).to(self.device)
        self.temperature, self.top_p = (
            torch.cat([old[index], old.new_ones(capacity - len(rows))]) for old in (self.temperature, self.top_p)
        )
        columns = np.arange(width)
        seen = self.live[:, None] & (columns >= self.origin[:, None]) & (columns < time)
        self.mask = self.mask.new_full((capacity, width), -torch.inf)
        self.mask.masked_fill_(torch.from_numpy(seen).to(self.device), 0)
        self.logits = self.logits[index]
        self.turns = [self.turns[row] for row in rows]
        self.time = self.end = time

    def _open(self, row: int, turn: Turn) -> None:
        sampling = turn.sampling
        self.turns[row] = turn
        self.live[row], self.watched[row] = True, 2 if sampling.stop else sampling.stop_at_answer
        self.origin[row] = self.time - len(turn.prompt)
        self.start[row], self.deadline[row] = self.time, self.time + sampling.max_new_tokens
        self.temperature[row], self.top_p[row] = sampling.temperature, sampling.top_p
        if sampling.max_new_tokens > self.random.shape[1]:
            extra = sampling.max_new_tokens - self.random.shape[1]
            self.random = np.pad(self.random, ((0, 0), (0, extra)))
        self.random[row, : sampling.max_new_tokens] = uniforms(turn.stream, sampling.max_new_tokens)

    def _prefill(self, turns: Sequence[Turn], places: Sequence[int]) -> None:
        """Compute the prompts of ``turns`` and write their keys and values to the rows ``places`` of the cache. A
        prompt that several turns share is computed once, and a cached prefix is not computed again."""
        device, width = self.device, self.cache.width
        prompts = sorted({turn.prompt for turn in turns}, key=len)
        for batch in padded_batches([(len(prompt), 0) for prompt in prompts], PREFILL):
            index = {prompts[place]: row for row, place in enumerate(batch)}
            lengths = np.array([len(prompt) for prompt in index])
            ids = torch.tensor([token for prompt in index for token in prompt], device=device)
            prefixes = [self.prefixes.of(prompt) for prompt in index]
            logits, layers = self.decoder.prefill(ids, lengths.tolist(), prefixes)
            for prompt, prefix, end in zip(index, prefixes, lengths.cumsum().tolist(), strict=True):
                if prefix is None or prefix.count < len(prompt) / 2:
                    self.prefixes.keep(prompt, layers, end - len(prompt))
            rows = [
                (index[turn.prompt], place) for turn, place in zip(turns, places, strict=True) if turn.prompt in index
            ]
            source, target = (torch.tensor(column, device=device) for column in zip(*rows, strict=True))
            read = np.array([row for row, _ in rows])
            # Per prompt token: its index in the prefill, and its row and column in the cache; prompts end together.
            counts = np.repeat(lengths[read], lengths[read])
            step = np.arange(len(counts)) - np.repeat(lengths[read].cumsum() - lengths[read], lengths[read])
            token = np.repeat((lengths.cumsum() - lengths)[read], lengths[read]) + step
            row = np.repeat([place for _, place in rows], lengths[read])
            column = (self.time - counts + step) % width
            tokens, cells, columns = (torch.from_numpy(table).to(device) for table in (token, row, column))
            self.mask[target] = -torch.inf
            self.mask[cells, columns] = 0
            self.cache.store(layers, tokens, cells, columns)
            if len(self.logits) < len(self.turns):
                fresh = logits.new_zeros(len(self.turns), logits.shape[1])
                if len(self.logits):
                    fresh[: len(self.logits)] = self.logits
                self.logits = fresh
            self.logits[target] = logits[source]

    # tokens out

    def sample(self, on_token: OnToken | None) -> list[Turn]:
        """Sample one token per row; returns the turns that are finished by it."""
        rows = len(self.turns)
        step = np.minimum(self.time - self.start[:rows], self.random.shape[1] - 1)
        uniform = torch.from_numpy(self.random[np.arange(rows), step])
        drawn = self.draw(self.logits, self.temperature[:rows], self.top_p[:rows], uniform)
        column = self.time % self.cache.width
        new = drawn[0].cpu().numpy()
        self.tokens[:rows, column] = new
        self.logprobs[:rows, column], self.model_logprobs[:rows, column] = (part.cpu().numpy() for part in drawn[1:])
        live = self.live[:rows]
        if on_token is not None:
            for row in np.flatnonzero(live).tolist():
                on_token(self._turn(row), int(new[row]))
        self.time += 1
        self.end = max(self.end, min(self.time, self.cache.width))
        done = np.isin(new, self.ends)
        for row in np.flatnonzero(live & (self.watched[:rows] + np.isin(new, self.closing) > 1)).tolist():
            done[row] |= self._stops(row)
        finished = np.flatnonzero(live & (done | (self.time >= self.deadline[:rows]))).tolist()
        turns = [self._close(row, bool(done[row])) for row in finished]
        if turns:
            self.ready = -1
        return turns

    def advance(self) -> None:
        """Decode one step: compute the logits after the tokens that were just sampled."""
        writing = self.writing
        if not writing:
            return
        if not self.ready and writing < COMPACT_BELOW * len(self.turns):
            self._compact(writing)
        rows, column, device = len(self.turns), (self.time - 1) % self.cache.width, self.device
        self.mask[:rows, column] = 0
        tokens = torch.from_numpy(self.tokens[:rows, column])
        positions = torch.from_numpy(np.where(self.live[:rows], self.time - 1 - self.origin[:rows], 0))
        mask = self.mask[:rows, : self.end]
        self.logits = self.decoder.step(tokens.to(device), positions.to(device), self.cache, column, mask)

    def _compact(self, writing: int) -> None:
        """Remove the finished rows: the last live rows move into the first free ones."""
        target = np.flatnonzero(~self.live[:writing])
        source = writing + np.flatnonzero(self.live[writing:])
        into, out = torch.from_numpy(target).to(self.device), torch.from_numpy(source).to(self.device)
        self.cache.move(out, into)
        for table in (self.temperature, self.top_p, self.mask):
            table[into] = table[out]
        for array in (self.origin, self.start, self.deadline, self.watched, self.random):
            array[target] = array[source]
        for written in (self.tokens, self.logprobs, self.model_logprobs):
            written[target] = written[source]
        self.live[:writing], self.live[writing:] = True, False
        for old, new in zip(source, target, strict=True):
            self.turns[new] = self.turns[old]
        del self.turns[writing:]

    def _turn(self, row: int) -> Turn:
        turn = self.turns[row]
        assert turn is not None
        return turn

    def _stops(self, row: int) -> bool:
        """Whether a row has just written a text that it stops at."""
        sampling, written = self._turn(row).sampling, self._written(self.tokens, row)
        ends = filter(None, (ANSWER_END * sampling.stop_at_answer, sampling.stop))
        return any(end in self.weights.codec.decode(written[-len(end) :]) for end in ends)

    def _written(self, table: NDArray[Any], row: int) -> list[Any]:
        """The entries of ``table`` for the new tokens of a row."""
        values: list[Any] = table[row, np.arange(self.start[row], self.time) % self.cache.width].tolist()
        return values

    def _close(self, row: int, done: bool) -> Turn:
        """Free a row; returns its turn with the completion, log-probs and text."""
        turn = self._turn(row)
        completion, logprobs, model_logprobs = (
            tuple(self._written(table, row)) for table in (self.tokens, self.logprobs, self.model_logprobs)
        )
        self.turns[row], self.live[row] = None, False
        if not all(map(math.isfinite, logprobs)):
            raise diverged(turn, "the model produced")
        shown = completion[:-1] if completion[-1] in self.weights.end_tokens else completion
        return replace(
            turn,
            status=Status.DONE if done else Status.TRUNCATED,
            completion=completion,
            logprobs=logprobs,
            model_logprobs=model_logprobs if model_logprobs != logprobs else logprobs,
            text=self.weights.codec.decode(shown),
        )
