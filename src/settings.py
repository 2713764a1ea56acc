"""``Section``: the base class of all configuration sections, with typed fields validated by pydantic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from src.types import InputError

LARGEST_SEED = 2**63 - 1


class Section(BaseModel):
    """An immutable section of the configuration, validated at construction.

    The class declares the type, default and bounds of each field. ``check`` adds rules between fields of the section;
    ``check_run`` adds rules that involve other sections or this machine. Neither may load weights.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    def check(self) -> Iterable[str]:
        """Yield an error message, naming the setting, for each invalid combination of this section's values."""
        return ()

    def check_run(self, run: RunSettings) -> Iterable[str]:
        """Yield an error message for each conflict with other sections of ``run`` or with this machine."""
        return ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if errors := list(self.check()):
            raise InputError(*errors)
        return self

    def replace(self, **changes: Any) -> Self:
        """Copy the section with some fields changed. The copy is validated again."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    def described(self) -> dict[str, Any]:
        """Return the class path and all field values as plain data, for hashes and saved records."""
        values = {name: _plain(getattr(self, name)) for name in type(self).model_fields}
        return {"_target_": f"{type(self).__module__}.{type(self).__qualname__}", **values}


class RunSettings(Section):
    """The sections that describe a run; sections that a command does not have are ``None``.

    The settings of a command are a subclass with typed fields, in the ``settings`` module of the command's
    package. Here fields are untyped, since this module lies below the packages that define the sections.
    """

    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    model: Any = None
    rounds: Any = None
    benchmark: Any = None
    verifier: Any = None
    engine: Any = None
    reward: Any = None
    credit: Any = None
    algorithm: Any = None
    optimizer: Any = None
    tracking: Any = None
    parallel: Any = None
    train: Any = None
    evaluation: Any = None
    imitation: Any = None
    measuring: Any = None


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.described()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
