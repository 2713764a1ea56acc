"""Configuration: composing it, finding every mistake in it, and building what it describes. Only this file knows
Hydra."""

from __future__ import annotations

import difflib
import importlib
import itertools
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.records import InputError

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"

OmegaConf.register_new_resolver("package", lambda path: str(Path(__file__).parent / path), replace=True)
OmegaConf.register_new_resolver("plain", lambda text: text.replace('"', "").replace("/", ".")[:120], replace=True)


# ---------------------------------------------------------------------------------------------------------- sections


@dataclass(frozen=True)
class TrainConfig:
    """The loop; each field is explained in conf/train.yaml."""

    steps: int
    problems: int
    micro_batch_tokens: int
    max_grad_norm: float
    rollouts_every: int
    threads: int

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        names = ("steps", "problems", "micro_batch_tokens", "rollouts_every")
        errors = [f"train.{name}={getattr(self, name)} must be 1 or more" for name in names if getattr(self, name) < 1]
        if self.max_grad_norm <= 0:
            errors.append(f"train.max_grad_norm={self.max_grad_norm} must be above 0")
        if self.threads < 0:
            errors.append(f"train.threads={self.threads} must be 0 (torch decides) or more")
        return errors


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how answers are sampled; see conf/train.yaml."""

    rounds: Sequence[int]
    samples: int
    temperature: float
    top_p: float
    limit: int | None = None
    every: int = 0
    keep_best: bool = False
    before: bool = True

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if not self.rounds or min(self.rounds) < 1:
            errors.append(f"evaluation.rounds={list(self.rounds)} must name numbers of rounds, all 1 or more")
        if self.samples < 1:
            errors.append(f"evaluation.samples={self.samples} must be 1 or more")
        if self.temperature < 0:
            errors.append(f"evaluation.temperature={self.temperature} must be 0 (greedy) or more")
        if self.temperature == 0 and self.samples > 1:
            errors.append(
                f"evaluation.temperature=0 is greedy, so evaluation.samples={self.samples} would all be equal; "
                "use evaluation.samples=1"
            )
        if not 0 < self.top_p <= 1:
            errors.append(f"evaluation.top_p={self.top_p} must be in (0, 1]")
        if self.limit is not None and self.limit < 1:
            errors.append(f"evaluation.limit={self.limit} must be null (all problems) or 1 or more")
        if self.every < 0:
            errors.append(f"evaluation.every={self.every} must be 0 (never) or more")
        if self.keep_best and self.every == 0:
            errors.append(
                "evaluation.keep_best=true chooses by validation accuracy, but evaluation.every=0 never looks"
            )
        return errors


# ------------------------------------------------------------------------------------- any number of rounds as a group


class AnyRounds(ConfigSource):
    """Makes ``rounds=<any integer>`` a choice of the group ``rounds``: the default strategy with that n."""

    @staticmethod
    def scheme() -> str:
        return "rounds"

    def load_config(self, config_path: str) -> ConfigResult:
        n = int(_stem(config_path))
        config = OmegaConf.create({"defaults": ["multi-round", "_self_"], "n": n})
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header={"package": None})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == "rounds"

    def is_config(self, config_path: str) -> bool:
        group, _, _ = config_path.rpartition("/")
        return group == "rounds" and _is_integer(_stem(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return ["1", "2", "3", "4", "5"] if config_path == "rounds" and results_filter != ObjectType.GROUP else []


class RoundsPath(SearchPathPlugin):
    """Puts ``AnyRounds`` on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="motif", path="rounds://any")


def _register() -> None:
    for plugin in (AnyRounds, RoundsPath):
        Plugins.instance().register(plugin)


def _stem(config_path: str) -> str:
    return config_path.rpartition("/")[2].removesuffix(".yaml")


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdigit()


# ----------------------------------------------------------------------------------------------------------- composing


def quote_rounds(overrides: Sequence[str]) -> list[str]:
    """Quote the integers of ``rounds=3`` and ``rounds=1,3,5``: Hydra takes a group's choice as text only."""
    parser = OverridesParser.create()
    result = []
    for text in overrides:
        if not text.startswith("rounds="):
            result.append(text)
            continue
        value = parser.parse_override(text).value()
        if isinstance(value, RangeSweep):
            choices: Sequence[Any] = [int(number) for number in value.range()]
        elif isinstance(value, ChoiceSweep):
            choices = value.list
        else:
            choices = [value]
        result.append("rounds=" + ",".join(f'"{getattr(choice, "text", choice)}"' for choice in choices))
    return result


def compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration that ``python -m src.<name> <overrides>`` would run with, unchecked."""
    _register()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose(name, quote_rounds(overrides))
    finally:
        GlobalHydra.instance().clear()


def checked(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """``compose``, with every mistake found.

    Raises:
        InputError: all mistakes at once: unknown groups, options and keys, wrong types, impossible combinations.
    """
    errors: list[str] = []
    good = list(overrides)
    try:
        config = compose(name, good)
    except Exception:
        good = []
        groups_first = sorted(overrides, key=lambda text: "." in text.partition("=")[0])
        for override in groups_first:
            try:
                compose(name, [*good, override])
                good.append(override)
            except Exception as error:
                errors.append(_explain(name, good, override, error))
        config = compose(name, good)
    errors += find_mistakes(config)
    if errors:
        raise InputError(*dict.fromkeys(errors))
    return config


def _explain(name: str, good: Sequence[str], override: str, error: Exception) -> str:
    """One override's mistake, in words."""
    if isinstance(error, OverrideParseException):
        return f"{override}: not understood ({str(error).splitlines()[0]}); write key=value, lists as [a,b]"
    key, _, value = override.lstrip("+~").partition("=")
    group = key.partition("@")[0]
    if isinstance(error, MissingConfigException) or "Could not find" in str(error):
        return f"{override}: {group} has no option {value!r}; valid: {', '.join(options(group)) or 'none'}"
    known = sorted({*_keys(compose(name, good)), *groups()})
    near = difflib.get_close_matches(key, known, 3, 0.5)
    if group not in known:
        return f"{override}: there is no setting {key!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
    return f"{override}: {str(error.__cause__ or error).splitlines()[0]}"


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    for key in config:
        yield prefix + str(key)
        child = config._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from _keys(child, f"{prefix}{key}.")


def groups() -> list[str]:
    """All config groups, nested ones with a slash."""
    return sorted(str(folder.relative_to(CONF)) for folder in CONF.rglob("*") if folder.is_dir())


def options(group: str) -> list[str]:
    """The choices of a group; ``rounds`` also takes any integer."""
    found = sorted(file.stem for file in (CONF / group).glob("*.yaml")) if (CONF / group).is_dir() else []
    return ["any integer from 1", *found] if group == "rounds" else found


# ------------------------------------------------------------------------------------------------------------ checking


def find_mistakes(config: DictConfig) -> list[str]:
    """Everything that is wrong with a composed configuration, in words. Loads no weights."""
    errors: list[str] = []
    sections: dict[str, Any] = {}
    errors += [f"{key}: there is no such setting" for key in config if key not in KNOWN]
    for name, kind in _section_types(config, errors).items():
        try:
            values = OmegaConf.to_container(config[name], resolve=True, throw_on_missing=False)
        except OmegaConfBaseException as error:
            errors.append(f"{name}: {str(error).splitlines()[0]}")
            continue
        found = _mismatches(name, kind, values)
        errors += found.values()
        usable = {key: value for key, value in values.items() if f"{name}.{key}" not in found}
        if not any(where.count(".") > 1 for where in found):  # what is wrong deeper down cannot be left out
            try:
                injected = {field: None for field in INJECTED if field in typing.get_type_hints(kind)}
                sections[name] = build(usable, kind, **injected)
            except (TypeError, ValueError, InputError) as error:
                if not found:  # otherwise it may be for what was left out
                    errors.append(f"{name}: {error}")
    for section in sections.values():
        if hasattr(section, "check"):
            errors += section.check()
    return errors + _combinations(sections, config)


KNOWN = frozenset(
    [
        "model",
        "rounds",
        "reward",
        "algorithm",
        "optimizer",
        "benchmark",
        "engine",
        "tracking",
        "train",
        "evaluation",
        "checkpoint",
        "experiment",
        "debug",
        "seed",
        "resume",
        "run",
        "question",
        "temperature",
        "top_p",
        "threads",
        "out",
        "prompts",
        "architecture",
        "demonstrations",
        "training",
    ]
)
"""Everything that may stand at the top of a configuration."""

INJECTED = frozenset({"weights"})
"""Fields of plug-ins that the program gives, not the configuration."""


def _section_types(config: DictConfig, errors: list[str]) -> dict[str, type]:
    """The class that each section of the configuration describes."""
    result: dict[str, type] = {}
    for name in config:
        node = config._get_node(name)
        if not isinstance(node, DictConfig) or node._is_none():
            continue
        if "_target_" in node:
            try:
                result[str(name)] = locate(node._target_)
            except InputError as error:
                errors.append(f"{name}._target_: {error}")
        elif (kind := section(str(name))) is not None:
            result[str(name)] = kind
    return result


def locate(target: str) -> Any:
    """The class or function that a dotted path names; says why where it cannot be imported."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise InputError(f"{target} cannot be imported: {error}") from error
    except (AttributeError, ValueError) as error:
        raise InputError(f"{target}: no such class") from error


def build(node: Any, kind: type | None = None, **extra: Any) -> Any:
    """The object that a section describes: nested sections with a ``_target_`` first, then the class with its
    fields."""
    values = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    return _build(values, kind, extra)


def _build(values: Any, kind: Any, extra: Mapping[str, Any]) -> Any:
    if isinstance(values, Mapping) and "_target_" in values:
        kind = locate(values["_target_"])
    hints = typing.get_type_hints(kind) if is_dataclass(kind) else {}
    if isinstance(values, Mapping):
        built = {
            key: _build(value, hint if is_dataclass(hint := hints.get(key)) else None, {})
            for key, value in values.items()
            if key != "_target_" and not (is_dataclass(kind) and key not in hints)
        }
        return kind(**built, **extra) if isinstance(kind, type) and kind is not dict else built
    if isinstance(values, list):
        return [_build(value, None, {}) for value in values]
    return values


def _mismatches(where: str, kind: Any, values: Any) -> dict[str, str]:
    """Unknown keys, missing values and wrong types of a section, against the fields of its dataclass: place to
    mistake."""
    if isinstance(values, Mapping) and "_target_" in values:
        try:
            kind = locate(values["_target_"])
        except InputError as error:
            return {f"{where}._target_": f"{where}._target_: {error}"}
    if not is_dataclass(kind) or not isinstance(values, Mapping):
        return {}
    hints = typing.get_type_hints(kind)
    known = {option.name: option for option in fields(kind)}
    errors: dict[str, str] = {}
    for key, value in values.items():
        place = f"{where}.{key}"
        if key in ("_target_", "credit"):
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 3, 0.5)
            errors[place] = f"{place}: there is no such setting; valid: {', '.join(near or sorted(known))}"
        elif value == "???":
            errors[place] = f"{place} has no value; give one with {place}=…"
        elif isinstance(value, Mapping):
            parts = {"": value} if "_target_" in value or is_dataclass(hints[key]) else value
            for name, part in parts.items():
                errors |= _mismatches(place + (f".{name}" if name else ""), hints[key], part)
        elif not _fits(value, hints[key]):
            errors[place] = f"{place}={value!r}: must be {_words(hints[key])}"
    required = {
        name
        for name, option in known.items()
        if option.init and option.default is MISSING and option.default_factory is MISSING
    }
    missing = sorted(required - set(values) - INJECTED)
    return errors | {f"{where}.{name}": f"{where}.{name} is missing" for name in missing}


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, str):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if hint is type(None):
        return value is None
    if origin is Literal:
        return value in arguments
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin is not None and issubclass(origin, Sequence):
        inner = arguments[0] if arguments else Any
        return isinstance(value, list) and all(_fits(item, inner) for item in value)
    return not isinstance(value, (str, int, float, list)) or value is None


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is not None:
        return f"a list of {_words(arguments[0])}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(hint, f"a section for {getattr(hint, '__name__', hint)}")


def _combinations(sections: Mapping[str, Any], config: DictConfig) -> list[str]:
    """Settings that are fine alone and impossible together."""
    errors: list[str] = []
    rounds, algorithm = sections.get("rounds"), sections.get("algorithm")
    if rounds is not None and rounds.n > 1 and rounds.progress_tokens >= rounds.context:
        errors.append(
            f"rounds.progress_tokens={rounds.progress_tokens} fills the whole context of {rounds.context} "
            "(model.context) and leaves no room for a completion; lower the first or raise the second"
        )
    credit = OmegaConf.select(config, "reward.credit")
    if credit is not None:
        try:
            credit_rule(credit)
        except InputError as error:
            errors.append(str(error))
    if algorithm is None or rounds is None or not rounds.widths:
        return errors
    group = rounds.widths[0]
    if group < 2:
        errors.append(
            f"a group of {group} (rounds.responses, or rounds.branching) has nothing to compare and never learns"
            + (" and no standard deviation (algorithm.scale=group)" if algorithm.scale == "group" else "")
            + "; use 2 or more"
        )
    if rounds.top_p < 1:
        errors.append(
            f"rounds.top_p={rounds.top_p} cuts the distribution of turns that learn, so their log-probs would be "
            "wrong; use rounds.top_p=1 (rounds.later_top_p is free: later rounds do not learn)"
        )
    if rounds.temperature == 0:
        errors.append("rounds.temperature=0 makes all responses of a group equal, so nothing is learned; use e.g. 1.0")
    return errors


def section(name: str) -> Any:
    """The dataclass of a section without a ``_target_``."""
    from src.checkpoint import CheckpointConfig
    from src.models import ModelConfig

    return {
        "train": TrainConfig,
        "evaluation": EvaluationConfig,
        "checkpoint": CheckpointConfig,
        "model": ModelConfig,
    }.get(name)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, interpolations resolved."""
    return typing.cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))


def check_lengths(strategy: Any, problems: Sequence[Any], codec: Any) -> None:
    """Refuse problems that do not fit the model's context.

    Raises:
        InputError: names the problems (the first few) and the settings.
    """
    errors = []
    for problem in problems:
        try:
            strategy.check_problem(problem, codec)
        except InputError as error:
            errors.append(str(error))
    if errors:
        more = [f"… and {len(errors) - 3} more problems"] if len(errors) > 3 else []
        raise InputError(*errors[:3], *more)


def credit_rule(name: str) -> Any:
    """The credit rule of ``reward.credit``: a file of src/credit, or a class by its dotted path."""
    if "." in name:
        return locate(name)()
    files = sorted(
        file.stem for file in (ROOT / "src" / "credit").glob("*.py") if file.stem not in ("__init__", "base")
    )
    if name not in files:
        raise InputError(
            f"reward.credit={name}: no such rule; valid: {', '.join(files)}, or a class by its dotted path"
        )
    return locate(f"src.credit.{name}.{name.title().replace('_', '')}")()


# ------------------------------------------------------------------------------------------------------------ running

PASSIVE = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")


def launch(name: str, task: Callable[[DictConfig], None], arguments: Sequence[str] | None = None) -> int:
    """Check everything, then run ``task`` under Hydra. Returns the exit code: 0 done, 2 bad configuration or input."""
    import hydra

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    passive = any(argument.partition("=")[0] in PASSIVE for argument in arguments)
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    try:
        quoted = quote_rounds(overrides)
        if not passive:
            for job in _jobs(quoted) if {"-m", "--multirun"} & set(arguments) else [quoted]:
                checked(name, job)
    except (InputError, HydraException) as error:
        return complain(error)
    rest = iter(quoted)
    sys.argv[1:] = [argument if argument.startswith("-") else next(rest) for argument in arguments]
    _register()
    code = [0]

    def guarded(config: DictConfig) -> None:
        try:
            task(config)
        except InputError as error:
            code[0] = complain(error)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(guarded)()
    return code[0]


def complain(error: Exception) -> int:
    """Print what is wrong, one mistake a line; returns exit code 2."""
    problems = error.problems if isinstance(error, InputError) else (str(error),)
    print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found, nothing was run:", file=sys.stderr)
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)
    return 2


def _jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The override lists of a sweep's jobs."""
    parser = OverridesParser.create()
    parts = []
    for override in parser.parse_overrides(list(overrides)):
        key = override.get_key_element()
        if override.is_sweep_override():
            parts.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            parts.append(
                [
                    f"{key}={override.get_value_element_as_str()}"
                    if override.value() is not None
                    else str(override.input_line)
                ]
            )
    return [list(job) for job in itertools.product(*parts)]


def choices() -> dict[str, str]:
    """The option chosen in each group, of the job that runs now."""
    return {
        group: str(choice)
        for group, choice in HydraConfig.get().runtime.choices.items()
        if not group.startswith("hydra")
    }


def run_directory() -> Path:
    """Where the job that runs now writes."""
    return Path(HydraConfig.get().runtime.output_dir)


RESUMABLE = ("resume", "train.steps", "train.threads", "tracking")
"""What a resumed run may change; everything else was fixed when it began."""


def resume(arguments: Sequence[str]) -> tuple[Path, DictConfig, dict[str, str]]:
    """The run, configuration and group choices of ``resume=<run dir>`` with its few allowed overrides.

    Raises:
        InputError: not a run, a run that is complete, or overrides that would make it another run.
    """
    refused = [
        argument
        for argument in arguments
        if argument.partition("=")[0] not in RESUMABLE and not argument.startswith("tracking.")
    ]
    if refused:
        raise InputError(
            *(
                f"{argument}: a resumed run keeps its configuration; it takes {', '.join(RESUMABLE[1:])} only. To "
                "change something else, start a new run."
                for argument in refused
            )
        )
    values = dict(argument.split("=", 1) for argument in arguments)
    run = Path(values.pop("resume"))
    config = load(run)
    if "train" not in config:
        raise InputError(f"{run}: not a training run (its configuration has no train section)")
    if (run / "summary.json").exists() and int(values.get("train.steps", config.train.steps)) <= config.train.steps:
        raise InputError(
            f"{run}: this run is complete ({config.train.steps} steps). Continue it with train.steps=<more>, or "
            f"look at {run / 'summary.json'}."
        )
    if "tracking" in values:
        choice = values.pop("tracking")
        if choice not in options("tracking"):
            raise InputError(f"tracking={choice}: no such option; valid: {', '.join(options('tracking'))}")
        OmegaConf.update(config, "tracking", OmegaConf.load(CONF / "tracking" / f"{choice}.yaml"), merge=False)
    for key, value in values.items():
        if OmegaConf.select(config, key, default=MISSING) is MISSING:
            raise InputError(f"{key}={value}: there is no setting {key!r}")
        OmegaConf.update(config, key, _parsed(value))
    mistakes = find_mistakes(config)
    if mistakes:
        raise InputError(*mistakes)
    hydra_file = OmegaConf.load(run / ".hydra" / "hydra.yaml")
    found = OmegaConf.select(hydra_file, "hydra.runtime.choices", default={})
    return run, config, {group: str(choice) for group, choice in found.items() if not str(group).startswith("hydra")}


def _parsed(text: str) -> Any:
    return OverridesParser.create().parse_override(f"value={text}").value()


def refuse_changes(run: Path, saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Refuse to continue a checkpoint under a configuration that was edited since.

    Raises:
        InputError: names every setting that differs.
    """
    before, after = dict(_flat(saved)), dict(_flat(present))
    changed = [
        f"{run}: {key} was {before.get(key)!r} when the run began and is {after.get(key)!r} in .hydra/config.yaml; put "
        "it back to continue, or start a new run"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not key.startswith(RESUMABLE)
    ]
    if changed:
        raise InputError(*changed)


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], values


def adapter_of(config: DictConfig) -> tuple[Path | None, int]:
    """The trained adapter that ``run`` and ``checkpoint`` name, and its step; none (the base, step 0) without a run.

    Raises:
        InputError: not a run, no such checkpoint, or another model than the run's.
    """
    if config.run is None:
        return None, 0
    from src import checkpoint

    run = Path(config.run)
    trained = load(run)
    if trained.model.path != config.model.path:
        raise InputError(
            f"run={run} trained model.path={trained.model.path}, but model.path={config.model.path} is asked for; "
            "choose the run's model"
        )
    if config.checkpoint is None:
        folder = checkpoint.latest(run)
    else:
        folder = run / "checkpoints" / f"step_{config.checkpoint}"
        if not folder.is_dir():
            raise InputError(f"checkpoint={config.checkpoint}: {run} holds {checkpoint.steps(run)}")
    return folder / "adapter", int(folder.name.removeprefix("step_"))


def load(run: Path) -> DictConfig:
    """The configuration of an earlier run.

    Raises:
        InputError: the folder is not a run.
    """
    file = run / ".hydra" / "config.yaml"
    if not file.is_file():
        raise InputError(
            f"{run}: not a run directory (it has no .hydra/config.yaml). Name one that src.train made, "
            "e.g. outputs/<date>/<time>"
        )
    return typing.cast(DictConfig, OmegaConf.load(file))
