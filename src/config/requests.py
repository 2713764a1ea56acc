"""What a command line asks for: one run, a sweep over given values, or a search whose sweeper chooses the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.composing import hydra_section, jobs, quote_rounds
from src.config.validating import tried
from src.parallel.settings import launched
from src.types import InputError


@dataclass(frozen=True)
class Request:
    """The jobs of a command line.

    Attributes:
        typed: its overrides as they were typed.
        overrides: the overrides as Hydra takes them: with those of ``hydra.sweeper.params``, and with rounds quoted.
        sweep: whether it asks for several jobs, by ``-m`` or ``hydra.mode: MULTIRUN`` in an option.
        search: whether the sweeper chooses the values of each job itself (Optuna).
        directory: the sweep's directory as it is configured, with interpolations unresolved.
        minimizes: whether a search looks for the smallest objective (Optuna's default).
    """

    typed: Sequence[str]
    overrides: Sequence[str]
    sweep: bool = False
    search: bool = False
    directory: str = ""
    minimizes: bool = False

    @property
    def jobs(self) -> list[list[str]]:
        """The overrides of each job; of a search, those of the jobs that are composed to check its values.

        Raises:
            InputError: a sweep without a searching sweeper is given an interval.
        """
        if not self.sweep:
            return [list(self.overrides)]
        if self.search:
            return points(self.overrides)
        intervals = [one.input_line for one in parsed(self.overrides) if isinstance(one.value(), IntervalSweep)]
        if intervals:
            raise InputError(
                *(
                    f"{text}: an interval needs a sweeper that searches, e.g. hydra/sweeper=optuna (pip install "
                    "'motif-lab[sweeps]'); valid here: values such as 1,2 or range(1,3)"
                    for text in intervals
                )
            )
        return jobs(self.overrides)

    @property
    def flags(self) -> list[str]:
        """Arguments for Hydra that replace what the options themselves ask for."""
        if not self.sweep:
            return []
        return ["hydra.sweeper.params=null", *(["hydra.sweeper.direction=maximize"] if self.minimizes else [])]


def requested(command: str, typed: Sequence[str], multirun: bool) -> Request:
    """Read what the overrides ``typed`` ask for.

    Raises:
        HydraException: an override cannot be parsed.
        InputError: the jobs would start in other processes, but this command runs on several itself.
    """
    single = fixed(typed)
    try:
        try:
            hydra = hydra_section(command, single)
        except (HydraException, OmegaConfBaseException):  # settings that only the swept options have
            hydra = hydra_section(command, tried(command, single)[1])
    except (HydraException, OmegaConfBaseException):  # composing the jobs reports all mistakes
        return Request(typed, quote_rounds(typed), multirun)
    if not (multirun or str(hydra.mode).endswith("MULTIRUN")):
        return Request(typed, quote_rounds(typed))
    if (processes := launched()) > 1 and not str(hydra.launcher.get("_target_", "")).endswith(".BasicLauncher"):
        name = hydra.runtime.choices["hydra/launcher"]
        raise InputError(
            f"hydra/launcher={name} starts a process for each job, but this command was started on {processes} "
            "processes; leave out hydra/launcher, or start the command with python -m src.train"
        )
    keys = {text.lstrip("+~").partition("=")[0] for text in typed}
    params = [f"{key}={_text(value)}" for key, value in _params(hydra).items() if key not in keys]
    search = not str(hydra.sweeper.get("_target_", "")).endswith(".BasicSweeper")
    minimizes = search and str(hydra.sweeper.get("direction", "")).lower().endswith("minimize")
    place: Any = OmegaConf.to_container(hydra.sweep, resolve=False)
    return Request(typed, quote_rounds(_last_of_each([*params, *typed])), True, search, str(place["dir"]), minimizes)


def _last_of_each(overrides: Sequence[str]) -> list[str]:
    """Keep the last override of each setting, in the place of the first, as Hydra's sweeper does."""
    return list({one.get_key_element(): text for text, one in zip(overrides, parsed(overrides), strict=True)}.values())


def points(overrides: Sequence[str]) -> list[list[str]]:
    """Jobs that try every value of a search at least once: one with all first values, and one for each other value.

    The values of an interval are its two ends.
    """
    values = [_values(override) for override in parsed(overrides)]
    first = [some[0] for some in values]
    others = [(place, other) for place, some in enumerate(values) for other in some[1:]]
    return [first, *([*first[:place], other, *first[place + 1 :]] for place, other in others)]


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides."""
    return OverridesParser.create().parse_overrides(list(overrides))


def fixed(overrides: Sequence[str]) -> list[str]:
    """The overrides that are the same in all jobs."""
    return [text for text, one in zip(overrides, parsed(overrides), strict=True) if not one.is_sweep_override()]


def _values(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [f"{override.get_key_element()}={end}" for end in (value.start, value.end)]
    return [job[0] for job in jobs([str(override.input_line)])]


def _params(hydra: DictConfig) -> dict[str, Any]:
    params = hydra.sweeper.get("params")
    plain: Any = {} if params is None else OmegaConf.to_container(params)
    return {str(key): value for key, value in plain.items()}


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
