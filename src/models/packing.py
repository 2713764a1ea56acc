"""Sequence packing for training: rows with the same prompt share it, and micro-batches stay within a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from statistics import fmean

import torch
from torch import Tensor

from src.types import Row

Pack = list[int]
"""Indices of rows with the same prompt, which is computed once for all of them."""


def packs(rows: Sequence[Row], attention: float, budget: int) -> list[Pack]:
    """Group rows with the same prompt into packed sequences: the prompt, then several completions.

    Sharing saves computing the prompt again, but dense attention spans the whole sequence. ``attention`` is the cost of
    attending to one token, as a fraction of all other work on a token. The number of rows per sequence minimises the
    cost per row, within ``budget`` tokens.
    """
    families: dict[tuple[int, ...], Pack] = {}
    for index, row in enumerate(rows):
        families.setdefault(row.prompt, []).append(index)
    result = []
    for prompt, family in families.items():
        shared, lengths = len(prompt), [len(rows[index].completion) for index in family]
        fitting = max(1, (budget - shared) // max(lengths)) if max(lengths) else len(family)
        mean = fmean(lengths)

        def cost(count: int, shared: int = shared, mean: float = mean) -> float:
            length = shared + count * mean
            return length * (1 + attention * length) / count

        size = min(range(1, min(len(family), fitting) + 1), key=cost)
        result += [family[start : start + size] for start in range(0, len(family), size)]
    return result


def micro_batches(rows: Sequence[Row], attention: float, budget: int) -> list[list[Pack]]:
    """Micro-batches of packs of similar length, at most ``budget`` padded tokens each (a longer pack runs alone)."""
    packed = packs(rows, attention, budget)
    lengths = [len(rows[pack[0]].prompt) + sum(len(rows[index].completion) for index in pack) for pack in packed]
    order = sorted(range(len(packed)), key=lambda place: lengths[place])
    return [
        [packed[order[place]] for place in batch] for batch in padded_batches([(lengths[i], 0) for i in order], budget)
    ]


def padded_size(rows: Sequence[Row], packed: Sequence[Pack]) -> int:
    """Padded tokens of a micro-batch."""
    return len(packed) * max(len(rows[pack[0]].prompt) + sum(len(rows[i].completion) for i in pack) for pack in packed)


def padded_batches(sizes: Sequence[tuple[int, int]], budget: int) -> list[list[int]]:
    """Split rows of (prompt, completion) lengths, in order, into batches of at most ``budget`` padded tokens.

    The padded size of a batch is rows x (longest prompt + longest completion). A row that exceeds the budget alone is a
    batch of its own. Returns the indices of each batch.
    """
    batches: list[list[int]] = [[]]
    longest_prompt = longest_completion = 0
    for index, (prompt, completion) in enumerate(sizes):
        longest_prompt, longest_completion = max(longest_prompt, prompt), max(longest_completion, completion)
        if batches[-1] and (len(batches[-1]) + 1) * (longest_prompt + longest_completion) > budget:
            batches.append([])
            longest_prompt, longest_completion = prompt, completion
        batches[-1].append(index)
    return batches


@dataclass(frozen=True)
class Span:
    """A batch of prompts or completions of similar length, padded together.

    Each row attends causally to itself; a completion also attends to its prompt. ``place`` ``[rows x steps]`` holds the
    index of each token in the concatenation of all sequences, and ``real`` ``[rows, steps]`` is False for padding (None
    without padding). Completions also have ``sequence`` ``[rows]``, the sequence of each row, and ``mask`` ``[rows, 1,
    steps, prompt + steps]``, the visible tokens.
    """

    rows: int
    place: Tensor
    real: Tensor | None
    sequence: Tensor | None = None
    mask: Tensor | None = None

    @property
    def prompt(self) -> int:
        """Length of the longest prompt that the rows attend to."""
        return 0 if self.mask is None else self.mask.shape[-1] - self.mask.shape[-2]

    @property
    def seen(self) -> int:
        """Number of tokens that a row attends to at most: the longest prompt and the row's own tokens."""
        return self.prompt + len(self.place) // self.rows


SPAN_TOKENS = 2**15
"""Limit on the tokens that all rows of a span attend to, because attention works on a padded copy of them."""


def spans(prompts: Sequence[int], completions: Sequence[Sequence[int]], width: int) -> list[Span]:
    """Split packed sequences into spans by length: the longest row of a span is less than twice its shortest.

    ``prompts`` holds the prompt length of each sequence, ``completions`` the lengths of its completions. The prompt and
    each completion are rows; if there is a single completion, prompt and completion form one row.
    """
    groups: dict[tuple[bool, int], list[tuple[int, int, int]]] = {}
    for sequence, lengths in enumerate(completions):
        place, single = sequence * width, len(lengths) == 1
        stretches = [prompts[sequence] + lengths[0]] if single else [prompts[sequence], *lengths]
        for index, length in enumerate(stretches):
            if length:
                groups.setdefault((index > 0, length.bit_length()), []).append((sequence, place, length))
            place += length
    prompt_lengths = torch.tensor(prompts)
    result = []
    for (follows, _), members in groups.items():
        most = max(length + follows * prompts[sequence] for sequence, _, length in members)
        at_once = max(1, SPAN_TOKENS // most)
        for begin in range(0, len(members), at_once):
            sequences, begins, counts = torch.tensor(members[begin : begin + at_once]).unbind(1)
            count, steps = len(counts), torch.arange(int(counts.max()))
            real = steps < counts[:, None]
            places = torch.where(real, begins[:, None] + steps, begins[:, None]).flatten()
            span = Span(count, places, None if real.all() else real)
            if not follows:
                result.append(span)
                continue
            own_lengths = prompt_lengths[sequences]
            prompt = torch.arange(int(own_lengths.max())) < own_lengths[:, None]
            earlier = torch.ones(len(steps), len(steps), dtype=torch.bool).tril()
            parts = [part.expand(count, len(steps), -1) for part in (prompt[:, None], earlier)]
            mask = torch.cat(parts, dim=-1)[:, None]
            result.append(replace(span, sequence=sequences, mask=mask))
    return result


@dataclass(frozen=True)
class Layout:
    """The input tensors of one forward pass over packed rows. Rows are numbered consecutively over all packs.

    ``ids`` and ``positions`` are ``[packs, width]``. ``visible`` ``[packs, 1, width, width]`` is the attention mask: a
    token attends to its prompt and to the earlier tokens of its own completion. ``spans`` describe the same mask for
    shared-prompt attention. The other tensors have one entry per completion token: ``sequence`` and ``place`` locate
    the token that predicts it, ``row`` and ``step`` are its indices in a table ``[rows, steps]``; ``targets`` are ids;
    ``trained`` is false for tokens of the environment.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    sequence: Tensor
    place: Tensor
    row: Tensor
    step: Tensor
    targets: Tensor
    trained: Tensor
    rows: int
    steps: int
    spans: list[Span]


def layout(grouped: Sequence[Sequence[Row]], pad: int) -> Layout:
    """Build the input tensors of packs of rows; the rows of each pack have the same prompt."""
    lengths = [len(group[0].prompt) + sum(len(row.completion) for row in group) for group in grouped]
    width = max(lengths)
    ids = torch.full((len(grouped), width), pad)
    positions = torch.zeros(len(grouped), width, dtype=torch.long)
    part = torch.full((len(grouped), width), -1)  # 0 for the prompt, 1, 2, … for the completions, -1 for padding
    entries: list[tuple[int, int, int, int, int, bool]] = []
    number = 0
    for sequence, group in enumerate(grouped):
        prompt = group[0].prompt
        ids[sequence, : len(prompt)] = torch.tensor(prompt)
        positions[sequence, : len(prompt)] = torch.arange(len(prompt))
        part[sequence, : len(prompt)] = 0
        start = len(prompt)
        for index, row in enumerate(group, start=1):
            count = len(row.completion)
            ids[sequence, start : start + count] = torch.tensor(row.completion)
            positions[sequence, start : start + count] = torch.arange(len(prompt), len(prompt) + count)
            part[sequence, start : start + count] = index
            entries += [
                (sequence, start + step - 1 if step else len(prompt) - 1, number, step, token, own)
                for step, (token, own) in enumerate(zip(row.completion, row.mask or repeat(True), strict=False))
            ]
            start, number = start + count, number + 1
    earlier = torch.ones(width, width, dtype=torch.bool).tril()
    same = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    # Every token, padding included, sees itself: a softmax over no tokens would be NaN.
    visible = (same & (part >= 0)[:, None, :] & earlier) | torch.eye(width, dtype=torch.bool)
    sequence_, place, row_, step_, targets, own_ = torch.tensor(entries).unbind(1)
    steps = max(len(row.completion) for group in grouped for row in group)
    prompts = [len(group[0].prompt) for group in grouped]
    completions = [[len(row.completion) for row in group] for group in grouped]
    own_spans = spans(prompts, completions, width)
    table = (sequence_, place, row_, step_, targets, own_.bool())
    return Layout(ids, positions, visible[:, None], *table, number, steps, own_spans)


def trained(row: Row) -> Tensor:
    """Which completion tokens of a row have a loss, ``[tokens]``: all but those of the environment."""
    return torch.tensor(row.mask or [True] * len(row.completion), dtype=torch.bool)


def placed(values: Tensor, row: Row) -> Tensor:
    """Values of a row's trained tokens, at their places in the completion; 0 for tokens of the environment.

    A row without values (it has no loss) has none here either.
    """
    if not row.mask or not len(values):
        return values
    return torch.zeros(len(row.completion), dtype=values.dtype).masked_scatter(trained(row), values)
