"""HTML page of rollouts: one file that needs no network. All model text is escaped, or inserted as text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from src.reporting.charts import charts
from src.reporting.page_data import numbered, page_data, sources
from src.reporting.runs import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
SCRIPTS = ("graph.js", "filters.js", "turns.js", "keys.js", "page.js")
"""Files that make the page's only script, which its content security policy names by hash."""

SURROGATE = re.compile("[\ud800-\udfff]")


class Html(str):
    """Rendered HTML, which notebooks display."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def page(groups: Sequence[Group], steps: int, trees: int, problems: int, seeds: int = 1) -> str:
    """The page on each group's first ``seeds``: rollouts of training, and answers to the first ``problems`` of splits.

    Of training, it shows up to ``steps`` logged steps, and of each step the first ``trees`` rollouts. The problems of a
    step are drawn at random, so its first rollouts are an unbiased sample.
    """
    script = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = json.dumps(page_data(groups, steps, trees, problems, seeds), ensure_ascii=False, separators=(",", ":"))
    # Not escaped as HTML, which a script element would show as it is: without "<", no text can end the element.
    data = data.replace("<", "\\u003c")
    # Half of a surrogate pair is a character of JSON, but not of UTF-8, in which the page is written.
    data = SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", data)
    made = {"script": Markup(script), "allowed": allowed, "data": Markup(data), "charts": charts(groups)}
    return _render("page", made)


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


@cache
def _template() -> Template:
    folder = FileSystemLoader(FOLDER)
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("rollouts.html.jinja")


def _render(macro: str, value: Any) -> Html:
    """The output of one of the template's macros."""
    return Html(getattr(_template().module, macro)(value).strip() + "\n")


def _tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with nested turns, and its largest absolute advantage, which scales the colours.

    Turns of a graph, where a prompt quotes several turns, are not nested.
    """
    turns = [{**turn, "sources": sources(turn)} for turn in tree["turns"]]
    several = any(len(turn["sources"]) > 1 for turn in turns)
    children: dict[tuple[int, ...], list[Mapping[str, Any]]] = {}
    for turn in turns:
        children.setdefault(() if several else tuple(turn["path"][:-1]), []).append(turn)
    if several:
        children = {(): children[()]}
    advantages = [abs(turn["advantage"]) for turn in turns if turn["advantage"] is not None]
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
            "number": numbered(turn["path"]),
            "prompt": turn.get("prompt", ""),
            "quotes": [numbered(source) for source in turn["sources"]] if len(turn["sources"]) > 1 else [],
            "probe": turn.get("probe", False),  # runs of version 0.1 did not record it
            "scores": {name: value for name, value in (turn["scores"] or {}).items() if value is not None},
            "continuations": _nested(children, tuple(turn["path"])),
        }
        for turn in children.get(path, ())
    ]
