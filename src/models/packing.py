"""Laying rows out for one forward pass: siblings share their prompt, and passes stay under a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from src.types import Row

Pack = list[int]
"""Indices of rows with one prompt, which is computed once for all of them."""


def packs(rows: Sequence[Row], attention: float, budget: int) -> list[Pack]:
    """Rows with the same prompt side by side in one sequence: the prompt, then each completion.

    Sharing saves the prompt and costs attention, which looks at the whole sequence: ``attention`` is what attending to
    one token costs, as a share of all other work on a token. As many rows share a sequence as make a row cheapest, and
    as fit into ``budget`` tokens.
    """
    families: dict[tuple[int, ...], Pack] = {}
    for index, row in enumerate(rows):
        families.setdefault(row.prompt, []).append(index)
    result = []
    for prompt, family in families.items():
        asked, written = len(prompt), [len(rows[index].completion) for index in family]
        fitting = max(1, (budget - asked) // max(written)) if max(written) else len(family)
        mean = fmean(written)

        def cost(count: int, asked: int = asked, mean: float = mean) -> float:
            length = asked + count * mean
            return length * (1 + attention * length) / count

        size = min(range(1, min(len(family), fitting) + 1), key=cost)
        result += [family[start : start + size] for start in range(0, len(family), size)]
    return result


def micro_batches(rows: Sequence[Row], attention: float, budget: int) -> list[list[Pack]]:
    """Packs of similar length together, in passes of at most ``budget`` padded tokens (a pack over it runs alone)."""
    found = packs(rows, attention, budget)
    lengths = [len(rows[pack[0]].prompt) + sum(len(rows[index].completion) for index in pack) for pack in found]
    order = sorted(range(len(found)), key=lambda place: lengths[place])
    return [
        [found[order[place]] for place in batch] for batch in padded_batches([(lengths[i], 0) for i in order], budget)
    ]


def padded_batches(sizes: Sequence[tuple[int, int]], budget: int) -> list[list[int]]:
    """Indices of (prompt, completion) lengths, in order, in batches whose padded size stays under ``budget`` tokens.

    A batch is rows x (longest prompt + longest completion); a row that is over the budget alone is a batch of its own.
    """
    batches: list[list[int]] = [[]]
    prompt = completion = 0
    for index, (asked, written) in enumerate(sizes):
        prompt, completion = max(prompt, asked), max(completion, written)
        if batches[-1] and (len(batches[-1]) + 1) * (prompt + completion) > budget:
            batches.append([])
            prompt, completion = asked, written
        batches[-1].append(index)
    return batches


@dataclass(frozen=True)
class Span:
    """Stretches of tokens of similar length, a row each, that attend to themselves, and completions to their prompt.

    ``place`` ``[rows x steps]`` tells where their tokens stand in all sequences laid end to end, and ``real`` ``[rows,
    steps]`` which of these there are; none where all are. What follows a prompt has in ``sequence`` ``[rows]`` the
    sequence of each row, and in ``mask`` ``[rows, 1, steps, prompt + steps]`` what its tokens see; others look back
    over themselves.
    """

    rows: int
    place: Tensor
    real: Tensor | None
    sequence: Tensor | None = None
    mask: Tensor | None = None

    @property
    def prompt(self) -> int:
        """Tokens of the longest prompt that is seen."""
        return 0 if self.mask is None else self.mask.shape[-1] - self.mask.shape[-2]


SPAN_TOKENS = 2**15
"""The most tokens that a span's rows see together: they are laid out anew while attention is computed."""


def spans(prompts: Sequence[int], completions: Sequence[Sequence[int]], width: int) -> list[Span]:
    """All tokens of sequences by length: a span's longest row has less than twice the tokens of its shortest.

    ``prompts`` are the tokens of each sequence's prompt, ``completions`` those of each completion after it. A prompt is
    a row, and each of its completions; with a single completion, both are one row.
    """
    groups: dict[tuple[bool, int], list[tuple[int, int, int]]] = {}
    for sequence, lengths in enumerate(completions):
        place, single = sequence * width, len(lengths) == 1
        stretches = [prompts[sequence] + lengths[0]] if single else [prompts[sequence], *lengths]
        for index, length in enumerate(stretches):
            if length:
                groups.setdefault((index > 0, length.bit_length()), []).append((sequence, place, length))
            place += length
    asked = torch.tensor(prompts)
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
            prompt = torch.arange(int(asked[sequences].max())) < asked[sequences][:, None]
            earlier = torch.ones(len(steps), len(steps), dtype=torch.bool).tril()
            parts = [part.expand(count, len(steps), -1) for part in (prompt[:, None], earlier)]
            mask = torch.cat(parts, dim=-1)[:, None]
            result.append(replace(span, sequence=sequences, mask=mask))
    return result


@dataclass(frozen=True)
class Layout:
    """One forward pass over packs; rows are numbered through, pack by pack.

    ``ids`` and ``positions`` are ``[packs, width]``; ``visible`` ``[packs, 1, width, width]`` tells what a token may
    look at: its own prompt and the part of its own completion before it. Of every completion token, ``sequence`` and
    ``place`` locate the token that predicts it, ``row`` and ``step`` where it belongs in a table of rows, and
    ``targets`` is the token itself. ``spans`` tell what ``visible`` does, to attention that computes no more than that.
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    sequence: Tensor
    place: Tensor
    row: Tensor
    step: Tensor
    targets: Tensor
    rows: int
    steps: int
    spans: list[Span]


def layout(grouped: Sequence[Sequence[Row]], pad: int) -> Layout:
    """Lay out rows that share their prompt, group by group."""
    lengths = [len(group[0].prompt) + sum(len(row.completion) for row in group) for group in grouped]
    width = max(lengths)
    ids = torch.full((len(grouped), width), pad)
    positions = torch.zeros(len(grouped), width, dtype=torch.long)
    part = torch.full((len(grouped), width), -1)  # 0 in the prompt, then the number of the completion; -1 is padding
    found: list[tuple[int, int, int, int, int]] = []
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
            found += [
                (sequence, start + step - 1 if step else len(prompt) - 1, number, step, token)
                for step, token in enumerate(row.completion)
            ]
            start, number = start + count, number + 1
    earlier = torch.ones(width, width, dtype=torch.bool).tril()
    same = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    visible = (same & (part >= 0)[:, None, :] & earlier) | torch.eye(width, dtype=torch.bool)  # no row of nothing: NaN
    sequence_, place, row_, step_, targets = torch.tensor(found).unbind(1)
    steps = max(len(row.completion) for group in grouped for row in group)
    prompts = [len(group[0].prompt) for group in grouped]
    completions = [[len(row.completion) for row in group] for group in grouped]
    found_ = spans(prompts, completions, width)
    return Layout(ids, positions, visible[:, None], sequence_, place, row_, step_, targets, number, steps, found_)
