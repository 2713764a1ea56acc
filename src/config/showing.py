"""Hydra's flags that show something and run nothing: ``--help``, ``--cfg``, ``--info`` and the like."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.composing import hydra_section, quote_rounds
from src.config.requests import Request, fixed
from src.config.validating import explained
from src.types import InputError

HELP = ("help", "hydra_help")
ANSWERS = ("run", "multirun", "cfg", "info", "shell_completion")
"""Flags of which Hydra takes one; ``HELP`` is answered first."""

OWN = {
    "config_name": "each command has one configuration, e.g. python -m src.evaluate",
    "config_path": "the configuration of a command is in conf/; --config-dir=<folder> adds options of your own",
    "experimental_rerun": "a run is continued with resume=<run dir>",
}
"""Flags of Hydra that commands do not take, and what to use instead."""

SHELLS = ("bash", "zsh", "fish")

COMPLETIONS = [f"{action}={shell}" for action in ("install", "uninstall") for shell in SHELLS]
"""What ``--shell-completion`` does for users; shells ask it for a completion of the line ``COMP_LINE``."""


def shows(given: Namespace) -> bool:
    """Whether a command line asks to be shown something."""
    return any(getattr(given, flag) for flag in (*HELP, "cfg", "info", "shell_completion"))


def refuse_flags(given: Namespace) -> None:
    """Check the flags of a command line.

    Raises:
        InputError: some are not taken, or contradict each other.
    """
    if errors := list(_mistakes(given)):
        raise InputError(*errors)


def _mistakes(given: Namespace) -> Iterator[str]:
    for flag, instead in OWN.items():
        if getattr(given, flag) is not None:
            yield f"{_spelled(flag)} is not taken: {instead}"
    if given.config_dir and not Path(given.config_dir).is_dir():
        yield f"--config-dir={given.config_dir}: no such folder"
    answers = [_spelled(flag) for flag in ANSWERS if getattr(given, flag)]
    helps = any(getattr(given, flag) for flag in HELP)
    if len(answers) > 1 and not helps:
        yield f"{' '.join(answers)}: a command does one of these; leave {answers[0]} out"
    if given.resolve and not given.cfg and not given.help:
        yield "--resolve belongs to --cfg or --help"
    if given.package and not given.cfg:
        yield "--package belongs to --cfg"


def to_show(command: str, given: Namespace) -> Request:
    """The request of a command line that asks to be shown something; help on a sweep is help without its values.

    Raises:
        InputError: an override or the package is not one of the command, or a value cannot be resolved.
    """
    if given.shell_completion:
        asked = "COMP_LINE" in os.environ and given.overrides[:1] in [[f"query={shell}"] for shell in SHELLS]
        if not asked and (len(given.overrides) != 1 or given.overrides[0] not in COMPLETIONS):
            raise InputError(f"--shell-completion takes one of {', '.join(COMPLETIONS)}")
        return Request(given.overrides, given.overrides)
    overrides = [text for text in given.overrides if not (given.multirun and _swept(text))]
    (node, _), errors = explained(command, overrides)
    if errors:
        raise InputError(*errors)
    if given.cfg and (given.package or given.resolve):
        _check_shown(command, node, overrides, given)
    return Request(given.overrides, quote_rounds(overrides))


def _swept(text: str) -> bool:
    """Whether an override gives several values; one that cannot be parsed gives none."""
    try:
        return not fixed([text])
    except HydraException:
        return False


def _check_shown(command: str, node: DictConfig, overrides: list[str], given: Namespace) -> None:
    """Check that the package is there and that its values can be resolved; ``node`` is the composed configuration.

    Raises:
        InputError: they cannot be shown.
    """
    nodes = [node] if given.cfg != "hydra" else []
    if given.cfg != "job":
        nodes.append(OmegaConf.create({"hydra": hydra_section(command, overrides)}))
    try:
        found = [OmegaConf.select(node, given.package) if given.package else node for node in nodes]
        if all(part is None for part in found):
            raise InputError(f"--package={given.package}: there is no such section")
        for part in found if given.resolve else ():
            if OmegaConf.is_config(part):
                OmegaConf.to_container(part, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"--cfg {given.cfg}: {str(error).splitlines()[0]}") from error


def _spelled(flag: str) -> str:
    return "--" + flag.replace("_", "-")
