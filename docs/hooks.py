"""Fills in the generated pages when the site is built: the configuration reference, the API reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic.fields import FieldInfo

from src.config import CONF, groups
from src.config.building import bounded, locate, section_in, typed
from src.config.composing import commands
from src.config.validating import command_class
from src.settings import Section
from src.utils.tables import markdown

SRC = CONF.parent / "src"
CONFIGURATION, API = "<!-- generated: configuration -->", "<!-- generated: api -->"
COMMENT = re.compile(r"^(\s*)([\w.+-]+):(?:[^#\"']|\"[^\"]*\"|'[^']*')*#\s*(.*)$")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the markers of generated parts."""
    return markdown.replace(CONFIGURATION, configuration()).replace(API, api()) if "<!-- gen" in markdown else markdown


def configuration() -> str:
    """A section for each config group: its options, and the fields of each class."""
    parts = ["## Commands", *map(_command, commands())]
    for group in groups():
        parts.append(f"## {group}")
        files = sorted((CONF / group).glob("*.yaml"))
        parts.append(markdown(["option", "what it is"], [[f"`{file.stem}`", _about(file)] for file in files]))
        comments: dict[str, str] = {}
        for file in files:
            comments = {**_comments(file), **comments}
        targets = [OmegaConf.load(file).get("_target_") for file in files]
        parts += [_fields(locate(target), comments) for target in dict.fromkeys(targets) if target is not None]
    return "\n\n".join(parts)


def api() -> str:
    """Every module of the project, room by room."""
    parts = []
    for room in ["", *sorted(folder.name for folder in SRC.iterdir() if (folder / "__init__.py").is_file())]:
        modules = sorted(path.stem for path in (SRC / room).glob("*.py") if not path.stem.startswith("__"))
        parts.append(f"## src{'.' + room if room else ''}")
        parts += [f"::: src{'.' + room if room else ''}.{module}" for module in modules]
        for inner in sorted(folder for folder in (SRC / room).iterdir() if room and (folder / "__init__.py").is_file()):
            names = sorted(path.stem for path in inner.glob("*.py") if path.stem != "__init__")
            parts += [f"::: src.{room}.{inner.name}.{name}" for name in names]
    return "\n\n".join(parts)


def _command(name: str) -> str:
    """The keys of a command's own yaml that are no group."""
    file = CONF / f"{name}.yaml"
    comments = _comments(file)
    rows = []
    for key, field in command_class(name).model_fields.items():
        section = section_in(field.annotation)
        fields = {key: field}
        if section is not None:
            fields = {f"{key}.{inner}": part for inner, part in section.model_fields.items()}
        rows += [[f"`{key}`", _type(part), comments[key]] for key, part in fields.items() if key in comments]
    return f"### python -m src.{name}\n\n{_about(file)}\n\n{markdown(['key', 'type', 'meaning'], rows)}"


def _fields(kind: type[Section], comments: dict[str, str]) -> str:
    """A table of a class's fields, with the comments of the group's yaml files."""
    rows = [
        [f"`{name}`", _type(field), _default(field), comments.get(name, "")]
        for name, field in kind.model_fields.items()
    ]
    about = (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    if not rows:
        return f"**{kind.__name__}**: {about}"
    return f"**{kind.__name__}**: {about}\n\n{markdown(['field', 'type', 'default', 'meaning'], rows)}"


def _type(field: FieldInfo) -> str:
    bounds = bounded(field).removesuffix(", or null")
    return f"{typed(field)}, {bounds}" if bounds else typed(field)


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)}`"


def _about(file: Path) -> str:
    """The comment at the head of a yaml."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _comments(file: Path) -> dict[str, str]:
    """The comment behind each key, by its dotted name."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        key = re.match(r"^(\s*)([\w.+-]+):", line)
        if key is None:
            continue
        depth = len(key[1])
        path = [*(part for part in path if part[0] < depth), (depth, key[2])]
        if match := COMMENT.match(line):
            found[".".join(name for _, name in path)] = match[3]
    return found
