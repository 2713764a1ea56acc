"""Finding every mistake in a configuration, before any weights load."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.building import build, credit_rule, dataclass_of, locate, verifier
from src.config.composing import compose, groups, options
from src.config.sections import section
from src.rounds.base import TokenCarry
from src.types import InputError


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
    default = compose(name)
    errors += [f"{key}: there is no such setting" for key in sorted(map(str, set(config) - set(default)))]
    errors += [f"{key} is missing; it cannot be left out" for key in sorted(map(str, set(default) - set(config)))]
    errors += _unlike(config, default)
    errors += [
        f"{key} has no value; give one with {key}=…" for key in map(str, config) if OmegaConf.is_missing(config, key)
    ]
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


def find_mistakes(config: DictConfig) -> list[str]:
    """Everything that is wrong with a composed configuration, in words. Loads no weights."""
    errors: list[str] = []
    sections: dict[str, Any] = {}
    for name, kind in _section_types(config, errors).items():
        try:
            values: Any = OmegaConf.to_container(config[name], resolve=True, throw_on_missing=False)
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
    for built in sections.values():
        if hasattr(built, "check"):
            errors += built.check()
    return errors + _combinations(sections, config)


INJECTED = frozenset({"weights"})
"""Fields of plug-ins that the program gives, not the configuration."""


def _unlike(config: Any, default: Any, prefix: str = "") -> list[str]:
    """Values of another type than their defaults, where no dataclass says what is valid."""
    errors = []
    for key in map(str, config):
        if key not in default or OmegaConf.is_missing(config, key) or OmegaConf.is_missing(default, key):
            continue
        value, usual = config[key], default[key]
        if isinstance(usual, DictConfig):
            if "_target_" not in usual and section(key) is None:
                errors += _unlike(value, usual, f"{prefix}{key}.") if isinstance(value, DictConfig) else []
        elif isinstance(usual, str) and OmegaConf.is_list(value):
            continue  # one, or a list of them
        elif isinstance(usual, (bool, int, float, str)) and not _fits(value, type(usual)):
            errors.append(f"{prefix}{key}={value!r}: must be {_words(type(usual))}")
    return errors


def _section_types(config: DictConfig, errors: list[str]) -> dict[str, type]:
    """The class that each section of the configuration describes."""
    result: dict[str, type] = {}
    for name in map(str, config):
        node = config._get_node(name)
        if not isinstance(node, DictConfig) or node._is_none():
            continue
        if "_target_" in node:
            try:
                result[name] = locate(node._target_)
            except InputError as error:
                errors.append(f"{name}._target_: {error}")
        elif (kind := section(name)) is not None:
            result[name] = kind
    return result


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
        place = f"{where}.{key!s}"
        if key == "_target_" or (key == "credit" and isinstance(value, str)):
            continue
        if key == "credit":
            errors |= _mismatches(place, None, value)
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 3, 0.5)
            errors[place] = f"{place}: there is no such setting; valid: {', '.join(near or sorted(known))}"
        elif value == "???":
            errors[place] = f"{place} has no value; give one with {place}=…"
        elif not _fits(value, hints[key]):
            errors[place] = f"{place}={value!r}: must be {_words(hints[key])}"
        elif isinstance(value, Mapping) and typing.get_origin(hints[key]) is Mapping:
            inner = typing.get_args(hints[key])[1]
            for name, part in value.items():
                if not _fits(part, inner):
                    errors[f"{place}.{name}"] = f"{place}.{name}={part!r}: must be {_words(inner)}"
                else:
                    errors |= _mismatches(f"{place}.{name}", inner, part)
        elif isinstance(value, Mapping):
            errors |= _mismatches(place, dataclass_of(hints[key]), value)
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
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if origin is Mapping:
        return isinstance(value, Mapping)  # its items are looked at one by one
    if origin is not None and issubclass(origin, Sequence):
        inner = arguments[0] if arguments else Any
        return isinstance(value, list) and all(_fits(item, inner) for item in value)
    return isinstance(value, Mapping)  # a section


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is Mapping:
        return "a section"
    if origin is not None:
        return f"a list of {_words(arguments[0])}"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(hint, f"a section for {getattr(hint, '__name__', hint)}")


def _combinations(sections: Mapping[str, Any], config: DictConfig) -> list[str]:
    """Settings that are fine alone and impossible together."""
    errors = _judges(sections)
    rounds, algorithm = sections.get("rounds"), sections.get("algorithm")
    train, benchmark = sections.get("train"), sections.get("benchmark")
    available = getattr(benchmark, "train_size", None)
    if train is not None and available is not None and available < train.problems:
        errors.append(
            f"train.problems={train.problems} asks for more problems a step than the {available} there are "
            "(benchmark.train_size); lower the first or raise the second"
        )
    further = getattr(algorithm, "max_resamples", 0)
    if train is not None and available is not None and further and available == train.problems:
        errors.append(
            f"algorithm.max_resamples={further} takes further problems, but a step has all {available} that there are "
            "(benchmark.train_size); lower train.problems or raise benchmark.train_size"
        )
    if train is not None and benchmark is not None and getattr(benchmark, "train", benchmark) is None:
        errors.append(
            f"benchmark={benchmark.name} has nothing to train on (benchmark.train is null); choose another, or add "
            "e.g. +benchmark/table@benchmark.train=gsm8k-train"
        )
    if "measuring" in sections and "engine" in sections and not hasattr(sections["engine"], "native"):
        errors.append(
            f"engine={type(sections['engine']).__name__}: what is measured is engine=transformers, with and without "
            "compiled code; vLLM is compared with it where it is installed"
        )
    evaluation = sections.get("evaluation")
    if getattr(benchmark, "validation_size", 1) == 0 and (looks := _looks_at_validation(sections)):
        errors.append(f"{looks} looks at the validation split, and benchmark.validation_size=0 leaves none")
    if benchmark is not None and (unknown := set(getattr(evaluation, "no_system", ())) - set(benchmark.tests)):
        errors.append(
            f"evaluation.no_system={sorted(unknown)}: benchmark={benchmark.name} has no such test split; valid: "
            f"{', '.join(benchmark.tests)}"
        )
    if rounds is not None and rounds.n != 1 and rounds.progress_tokens >= rounds.context:
        errors.append(
            f"rounds.progress_tokens={rounds.progress_tokens} fills the whole context of {rounds.context} "
            "(model.context) and leaves no room for a completion; lower the first or raise the second"
        )
    if "reward" not in config:
        return errors
    rule, reward = None, sections.get("reward")
    try:
        rule = credit_rule(OmegaConf.select(config, "reward.credit"))
    except (InputError, TypeError, ValueError) as error:
        errors.append(str(error) if isinstance(error, InputError) else f"reward.credit: {error}")
    if algorithm is None or rounds is None:
        return errors
    if rule is not None and hasattr(rule, "fits"):
        errors += rule.fits(rounds.widths, rounds.probes)
    if rule is not None and getattr(rule, "learns", "first") == "all" and rounds.n != 1:
        errors += _unlearnable(rounds)
    if getattr(rule, "across_rounds", False) and reward is not None and reward.normalise == "before":
        errors.append(
            "reward.normalise=before makes values that compare siblings only, but reward.credit compares rounds; use "
            "reward.normalise=after, or reward.credit=siblings"
        )
    needy = [name for name, term in reward.terms.items() if getattr(term, "needs_conclusion", False)] if reward else []
    if needy and rounds.ending == "fixed" and not isinstance(rounds.carry, TokenCarry):
        errors.append(
            f"reward.terms.{needy[0]} rewards ending early, but rounds.ending=fixed always takes {rounds.n} rounds; "
            "use rounds.ending=concludes"
        )
    if rounds.search is not None and rounds.n != 1 and rounds.probes < 1:
        errors.append(
            "rounds.search prunes candidates in training too, and without probes nothing tells what a pruned one was "
            "worth; use rounds.probes=1 or more, or search at evaluation only (src.evaluate rounds/search=…)"
        )
    group = rounds.widths[0] if rounds.widths else rounds.responses
    if group < 2:
        errors.append(
            f"a group of {group} (rounds.responses, or rounds.branching) has nothing to compare and never learns"
            + (" and no standard deviation (algorithm.scale=group)" if algorithm.scale == "group" else "")
            + "; use 2 or more"
        )
    if rounds.top_p < 1:
        errors.append(
            f"rounds.top_p={rounds.top_p} cuts the distribution of turns that learn, so their log-probs would be "
            "wrong; use rounds.top_p=1"
        )
    if rounds.temperature == 0:
        errors.append("rounds.temperature=0 makes all responses of a group equal, so nothing is learned; use e.g. 1.0")
    return errors


def _looks_at_validation(sections: Mapping[str, Any]) -> str:
    """The setting that does, if any."""
    if every := getattr(sections.get("evaluation"), "every", 0):
        return f"evaluation.every={every}"
    if imitation := sections.get("imitation"):
        return f"imitation.validation_problems={imitation.validation_problems}"
    return ""


def _judges(sections: Mapping[str, Any]) -> list[str]:
    """What is wrong with the verifiers that are asked besides the main one."""
    errors: list[str] = []
    names = [getattr(sections.get("verifier"), "name", None)]
    for also in getattr(sections.get("evaluation"), "also", ()):
        try:
            name = verifier(also).name
        except (InputError, TypeError) as error:
            errors.append(str(error))
            continue
        if name in names:
            errors.append(f"evaluation.also={also}: the verifier {name} is asked already")
        names.append(name)
    return errors


def _unlearnable(rounds: Any) -> list[str]:
    """Why later rounds cannot learn from what was sampled."""
    errors = []
    if rounds.continuation != "policy":
        errors.append(
            f"reward.credit lets every round learn, but rounds.continuation={rounds.continuation} has later rounds "
            "written by other weights than the policy's; use rounds.continuation=policy, or reward.credit=first"
        )
    if rounds.later_top_p < 1:
        errors.append(
            f"rounds.later_top_p={rounds.later_top_p} cuts the distribution of turns that learn, so their log-probs "
            "would be wrong; use rounds.later_top_p=1, or reward.credit=first"
        )
    if rounds.later_temperature == 0:
        errors.append(
            "rounds.later_temperature=0 makes all continuations equal, and reward.credit lets them learn; use e.g. 1.0"
        )
    return errors


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
