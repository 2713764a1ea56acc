"""``rollouts/step_*.jsonl``: the rollouts of a training step, one per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.credit.base import Credited
from src.rounds.mixture import Assigned
from src.types import Codec, Rollout, Scores
from src.types import Path as TurnPath
from src.utils.files import write_jsonl


def write_rollouts(
    path: Path, rollouts: Sequence[Rollout], scores: Sequence[Scores], credited: Credited, codec: Codec
) -> None:
    """Write each rollout with the texts, term scores, values, correctness and advantages of its turns."""
    advantages = {(row.tree, row.path): row.advantage for row in credited.rows}
    lines = (_line(rollout, score, advantages, codec) for rollout, score in zip(rollouts, scores, strict=True))
    write_jsonl(path, lines)


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


def _line(
    rollout: Rollout, score: Scores, advantages: Mapping[tuple[int, TurnPath], float], codec: Codec
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
            "tokens": len(turn.completion),
            "text": turn.text,
            "scores": {name: term.get(turn.path) for name, term in score.terms.items()},
            "value": score.values.get(turn.path),
            "correct": score.correct.get(turn.path),
            "advantage": advantages.get((turn.tree, turn.path)),
        }
        for turn in rollout.turns
    ]
    about = {"id": problem.id, "question": problem.question, "answer": problem.answer}
    part = {"part": problem.part} if isinstance(problem, Assigned) else {}
    return {"problem": about, **part, "turns": turns}
