"""``rollouts/step_*.jsonl``: the rollouts of a training step, one per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, repeat
from pathlib import Path
from typing import Any

from src.credit.base import Credited
from src.rounds.mixture import Assigned
from src.types import Codec, Rollout, Scores, Turn, Writer
from src.types import Path as TurnPath
from src.utils.files import write_jsonl

BROKEN = "\N{REPLACEMENT CHARACTER}"
"""How a tokenizer decodes bytes that are no complete character."""

LONGEST = 4
"""Bytes of the longest character in UTF-8."""


def write_rollouts(
    path: Path,
    rollouts: Sequence[Rollout],
    scores: Sequence[Scores],
    credited: Credited,
    codec: Codec,
    tokens: bool = False,
) -> list[dict[str, Any]]:
    """Write each rollout as a line of ``path``. Returns the lines."""
    written = lines(rollouts, scores, credited, codec, tokens)
    write_jsonl(path, written)
    return written


def lines(
    rollouts: Sequence[Rollout], scores: Sequence[Scores], credited: Credited, codec: Codec, tokens: bool
) -> list[dict[str, Any]]:
    """Each rollout with the texts, term scores, values, correctness and advantages of its turns.

    With ``tokens``, each turn also has ``pieces``: the text and log-prob of each token.
    """
    advantages = {(row.tree, row.path): row.advantage for row in credited.rows}
    return [_line(rollout, score, advantages, codec, tokens) for rollout, score in zip(rollouts, scores, strict=True)]


def lost(folder: Path, steps: Iterable[int]) -> list[int]:
    """List those of ``steps`` whose files are missing or cut."""
    return [step for step in steps if not _intact(rollout_file(folder, step))]


def rollout_file(folder: Path, step: int) -> Path:
    """Path of the rollouts of a step."""
    return folder / f"step_{step:06d}.jsonl"


def _intact(path: Path) -> bool:
    """Whether a file of rollouts exists and its last line is complete."""
    try:
        content = path.read_bytes()
        json.loads(content.splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return False
    return content.endswith(b"\n")


def pieces(turn: Turn, codec: Codec) -> list[list[Any]]:
    """Split a turn's text into ``[text, log-prob]`` of each token, in nats at the sampling temperature.

    Tokens that are only together valid text (the bytes of one character) are one piece with the sum of their log-probs.
    Tokens of the environment have no log-prob.
    Empty without log-probs (``rounds.top_p`` below 1 with vLLM).
    """
    found: list[list[Any]] = []
    held: list[int] = []
    total = 0.0
    for token, logprob, own in zip(turn.completion, turn.logprobs, turn.mask or repeat(True), strict=False):
        if not own:
            found.append([codec.decode([token]), None])
            continue
        held.append(token)
        total += logprob
        text = codec.decode(held)
        if not text.endswith(BROKEN) or len(held) == LONGEST:
            found.append([text, round(total, 4)])
            held, total = [], 0.0
    return [*found, [codec.decode(held), round(total, 4)]] if held else found


def segments(turn: Turn, codec: Codec) -> list[list[str]]:
    """Split a turn's text into ``[writer, text]`` of each stretch of tokens with one writer."""
    parts = groupby(zip(turn.completion, turn.mask, strict=True), key=lambda one: one[1])
    return [
        [str(turn.writer if own else Writer.ENVIRONMENT), codec.decode([token for token, _ in part])]
        for own, part in parts
    ]


def _line(
    rollout: Rollout,
    score: Scores,
    advantages: Mapping[tuple[int, TurnPath], float],
    codec: Codec,
    tokens: bool,
) -> dict[str, Any]:
    problem = rollout.problem
    turns = [
        {
            "path": list(turn.path),
            "parent": list(turn.family),
            "sources": [list(source) for source in turn.quoted],
            "round": turn.round,
            "writer": str(turn.writer),
            "probe": turn.probe,
            "status": str(turn.status),
            "prompt": codec.decode(turn.prompt),
            "carried": turn.carried,
            "carried_cut": turn.carried_cut,
            "prompt_tokens": len(turn.prompt),
            "tokens": turn.generated,
            "text": turn.text,
            "scores": {name: term.get(turn.path) for name, term in score.terms.items()},
            "value": score.values.get(turn.path),
            "correct": score.correct.get(turn.path),
            "advantage": advantages.get((turn.tree, turn.path)),
            **({"pieces": pieces(turn, codec)} if tokens else {}),
            **({"segments": segments(turn, codec)} if turn.mask else {}),
        }
        for turn in rollout.turns
    ]
    about = {"id": problem.id, "question": problem.question, "answer": problem.answer}
    part = {"part": problem.part} if isinstance(problem, Assigned) else {}
    return {"problem": about, **part, "turns": turns}
