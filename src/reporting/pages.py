"""Trees of turns as HTML: one page without scripts or network, in which all text of a model is escaped."""

from __future__ import annotations

import base64
import html
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from src.reporting.runs import Group, Run
from src.utils.files import read_jsonl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSS = """
.rollouts { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #ffffff; --box: #f6f8fa;
  --line: #d1d9e0; --up: 0, 114, 178; --down: 213, 94, 0; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .rollouts { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --box: #151b23;
  --line: #3d444d; --up: 86, 180, 233; --down: 240, 150, 60; } }
.rollouts summary { cursor: pointer; }
.rollouts .run, .rollouts .step, .rollouts .tree { border: 1px solid var(--line); border-radius: 8px; margin: .6em 0;
  padding: .5em .9em; }
.rollouts .run > summary { font-size: 1.15em; font-weight: 600; }
.rollouts .step > summary { font-weight: 600; }
.rollouts .problem { margin: .3em 0; white-space: pre-wrap; overflow-wrap: anywhere; font-weight: 600; }
.rollouts .soft { color: var(--soft); font-weight: 400; }
.rollouts .turn { border-left: 3px solid var(--line); margin: .7em 0 .2em .1em; padding-left: .8em; }
.rollouts .turn .turn { margin-left: .9em; }
.rollouts .chips { display: flex; flex-wrap: wrap; gap: .2em .5em; align-items: baseline; font-size: .82em;
  color: var(--soft); font-variant-numeric: tabular-nums; }
.rollouts .chips > * { white-space: nowrap; }
.rollouts .round { color: var(--ink); font-weight: 600; }
.rollouts .advantage { color: var(--ink); border-radius: 4px; padding: 0 .45em; border: 1px solid var(--line); }
.rollouts .bad { color: rgb(var(--down)); font-weight: 600; }
.rollouts pre { background: var(--box); border-radius: 6px; margin: .25em 0; padding: .4em .7em; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 24em; overflow-y: auto; font: 13px/1.45 ui-monospace, monospace; }
.rollouts .carried { font-size: .85em; color: var(--soft); margin: .15em 0; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.rollouts .carried code { color: var(--ink); }
.rollouts .more > summary { font-size: .85em; color: var(--soft); }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Rollouts</title>
<style>body {{ margin: 0; }} main {{ max-width: 60em; margin: 0 auto; padding: 1em; }} {css}</style>
</head>
<body class="rollouts"><main>
{body}
</main></body>
</html>
"""

LEGEND = (
    "A tree is one problem and what was written on it. A turn is one round in a fresh context, which quotes the "
    "progress that the round before carried over; its value is its own score at the end of a tree and the mean of its "
    "continuations elsewhere. The advantage is what the turn was reinforced by: blue above its siblings, orange below; "
    "turns without one did not learn. Shown are the first trees of some steps, from the first seed of each set of runs."
)


class Html(str):
    """Markup that needs no more escaping. A notebook shows it."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)


def element(name: str, *content: str | None, **attributes: str | None) -> Html:
    """A tag with its content, escaped unless it is ``Html``; ``None`` is left out, ``class_`` is the class."""
    inner = "".join(part if isinstance(part, Html) else html.escape(part) for part in content if part is not None)
    given = "".join(
        f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items() if value is not None
    )
    return Html(f"<{name}{given}>{inner}</{name}>")


def join(parts: Iterable[Html]) -> Html:
    """Elements after each other."""
    return Html("\n".join(parts))


def page(groups: Sequence[Group], steps: int, trees: int) -> str:
    """The whole page: the first seed of each group, up to ``steps`` of its logged steps, the first ``trees`` of each.

    The problems of a step are drawn at random, so its first trees are a fair sample.
    """
    runs = [_run(group, steps, trees, opened=group is groups[0]) for group in groups]
    body = join([element("h1", "Rollouts"), element("p", LEGEND, class_="soft"), *runs])
    return PAGE.format(css=CSS, body=body)


def fragment(tree: Mapping[str, Any]) -> Html:
    """One tree with its style, for a notebook."""
    return Html(f"<style>{CSS}</style>" + element("div", _tree(tree), class_="rollouts"))


def picture(figure: Figure) -> Html:
    """A figure, for a notebook."""
    from src.reporting.plots import style

    file = io.BytesIO()
    with style():
        figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return Html(f'<img alt="figure" width="900" src="data:image/png;base64,{data}">')


def logged(run: Run, step: int) -> list[dict[str, Any]]:
    """The trees of a logged step."""
    return list(read_jsonl(run.rollouts()[step]))


def spread(values: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the values, evenly spaced, the last among them and, from two on, the first."""
    if len(values) <= count:
        return list(values)
    if count == 1:
        return [values[-1]]
    return [values[round(index * (len(values) - 1) / (count - 1))] for index in range(count)]


def _run(group: Group, steps: int, trees: int, opened: bool) -> Html:
    run = group.runs[0]
    chosen = spread(list(run.rollouts()), steps)
    parts = [_step(run, step, trees, opened=step == chosen[-1]) for step in chosen]
    name = f"{group.label or run.path.name} "
    title = element("summary", name, element("span", f"seed {run.seed}", class_="soft"))
    return element("details", title, join(parts), class_="run", open="" if opened else None)


def _step(run: Run, step: int, trees: int, opened: bool) -> Html:
    found = logged(run, step)
    first = [turn["correct"] for tree in found for turn in tree["turns"] if turn["round"] == 1]
    live = [value for value in first if value is not None]
    right = f" {statistics.fmean(live):.0%} right" if live else " nothing scored"
    title = element("summary", f"Step {step}", element("span", f"{right} over {len(found)} trees", class_="soft"))
    body = join(_tree(tree) for tree in found[:trees])
    return element("details", title, body, class_="step", open="" if opened else None)


def _tree(tree: Mapping[str, Any]) -> Html:
    problem, turns = tree["problem"], tree["turns"]
    children: dict[tuple[int, ...], list[Mapping[str, Any]]] = {}
    for turn in turns:
        children.setdefault(tuple(turn["path"][:-1]), []).append(turn)
    strongest = max((abs(turn["advantage"]) for turn in turns if turn["advantage"] is not None), default=0.0)
    question = element("p", problem["question"], class_="problem")
    about = element("p", f"answer {problem['answer']}, problem {problem['id']}", class_="carried")
    body = (_turn(turn, children, strongest, index == 0) for index, turn in enumerate(children.get((), [])))
    return element("div", question, about, join(body), class_="tree")


def _turn(
    turn: Mapping[str, Any], children: Mapping[tuple[int, ...], Sequence[Any]], strongest: float, opened: bool = False
) -> Html:
    below = children.get(tuple(turn["path"]), [])
    continued = join(_turn(child, children, strongest) for child in below)
    if len(below) > 1:
        values = [child["value"] for child in below if child["value"] is not None]
        mean = f", values {', '.join(f'{value:.2f}' for value in values)}" if values else ""
        title = element("summary", f"{len(below)} continuations{mean}")
        continued = element("details", title, continued, class_="more", open="" if opened else None)
    carried = None
    if turn["carried"]:
        words = "carried (cut): " if turn["carried_cut"] else "carried: "
        carried = element("p", words, element("code", turn["carried"]), class_="carried")
    return element("section", _chips(turn, strongest), carried, element("pre", turn["text"]), continued, class_="turn")


def _chips(turn: Mapping[str, Any], strongest: float) -> Html:
    fine = turn["status"] == "done"
    number = ".".join(str(place + 1) for place in turn["path"])
    scores = " ".join(f"{name} {value:.2f}" for name, value in (turn["scores"] or {}).items() if value is not None)
    parts = [
        element("span", f"round {turn['round']}", class_="round", title=f"turn {number}"),
        _advantage(turn["advantage"], strongest),
        element("span", "no value" if turn["value"] is None else f"value {turn['value']:.2f}"),
        element("span", scores) if scores else None,
        element("span", f"{turn['tokens']} tokens"),
        element("span", turn["status"], class_=None if fine else "bad"),
        element("span", "probe") if turn.get("probe") else None,
        element("span", f"by {turn['writer']}") if turn["writer"] != "policy" else None,
    ]
    return element("div", *parts, class_="chips")


def _advantage(value: float | None, strongest: float) -> Html:
    if value is None:
        return element("span", "did not learn")
    shown = f"{value:+.2f}"
    if float(shown) == 0:
        return element("span", "advantage 0.00", class_="advantage")
    strength = 0.15 + 0.45 * abs(value) / strongest
    colour = f"background: rgba(var(--{'up' if value > 0 else 'down'}), {strength:.2f})"
    return element("span", f"advantage {shown}", class_="advantage", style=colour)
