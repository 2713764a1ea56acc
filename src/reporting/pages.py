"""HTML page of rollouts: one file without scripts or network access; all model text is escaped."""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from src.reporting.runs import Group, Run
from src.utils.files import read_jsonl

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Html(str):
    """Rendered HTML, which notebooks display."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def page(groups: Sequence[Group], steps: int, trees: int) -> str:
    """The page: of each group's first seed up to ``steps`` logged steps, of each step the first ``trees`` trees.

    The problems of a step are drawn at random, so its first trees are an unbiased sample.
    """
    return _render("page", [_run(group, steps, trees) for group in groups])


def fragment(tree: Mapping[str, Any]) -> Html:
    """One tree with its CSS, for a notebook."""
    return _render("fragment", _tree(tree))


def picture(figure: Figure) -> Html:
    """A figure as an <img> element, for a notebook."""
    from src.reporting.plots import style

    file = io.BytesIO()
    with style():
        figure.savefig(file, format="png")
    return _render("picture", base64.b64encode(file.getvalue()).decode())


def logged(run: Run, step: int) -> list[dict[str, Any]]:
    """Read the trees of a logged step."""
    return list(read_jsonl(run.rollouts()[step]))


def spread(values: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the values, evenly spaced; includes the last value and, from ``count=2`` on, the first."""
    if len(values) <= count:
        return list(values)
    if count == 1:
        return [values[-1]]
    return [values[round(index * (len(values) - 1) / (count - 1))] for index in range(count)]


@cache
def _template() -> Template:
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("rollouts.html.jinja")


def _render(macro: str, value: Any) -> Html:
    """The output of one of the template's macros."""
    return Html(getattr(_template().module, macro)(value).strip() + "\n")


def _run(group: Group, steps: int, trees: int) -> dict[str, Any]:
    run = group.runs[0]
    chosen = spread(list(run.rollouts()), steps)
    return {
        "label": group.label or run.path.name,
        "seed": run.seed,
        "steps": [_step(number, logged(run, number), trees) for number in chosen],
    }


def _step(number: int, rollouts: Sequence[Mapping[str, Any]], trees: int) -> dict[str, Any]:
    """A logged step: accuracy of its scored first-round turns, number of trees, and the first ``trees`` of them."""
    first = [turn["correct"] for tree in rollouts for turn in tree["turns"] if turn["round"] == 1]
    scored = [value for value in first if value is not None]
    return {
        "number": number,
        "accuracy": statistics.fmean(scored) if scored else None,
        "size": len(rollouts),
        "trees": [_tree(tree) for tree in rollouts[:trees]],
    }


def _tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with nested turns, and its largest absolute advantage, which scales the colours."""
    children: dict[tuple[int, ...], list[Mapping[str, Any]]] = {}
    for turn in tree["turns"]:
        children.setdefault(tuple(turn["path"][:-1]), []).append(turn)
    advantages = [abs(turn["advantage"]) for turn in tree["turns"] if turn["advantage"] is not None]
    return {
        "problem": tree["problem"],
        "turns": _nested(children, ()),
        "strongest": max(advantages, default=0.0),
    }


def _nested(children: Mapping[tuple[int, ...], Sequence[Mapping[str, Any]]], path: tuple[int, ...]) -> list[Any]:
    """The turns below ``path``, each with its continuations."""
    return [
        {
            **turn,
            "number": ".".join(str(place + 1) for place in turn["path"]),
            "probe": turn.get("probe", False),  # runs of version 0.1 did not record it
            "scores": {name: value for name, value in (turn["scores"] or {}).items() if value is not None},
            "continuations": _nested(children, tuple(turn["path"])),
        }
        for turn in children.get(path, ())
    ]
