"""The base class of every section of a configuration: typed fields, validated by pydantic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from src.types import InputError

if TYPE_CHECKING:
    from src.config.commands import RunSettings


class Section(BaseModel):
    """A section of the configuration, checked when it is constructed. Instances are immutable.

    A field's type, default and bounds stand in its class; ``check`` holds rules between fields of one section, and
    ``check_run`` rules that involve other sections or this machine. Neither may load weights.
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
        """What is wrong with the values of this section, in words that name the settings."""
        return ()

    def check_run(self, run: RunSettings) -> Iterable[str]:
        """What cannot work together with the rest of ``run``, or on this machine, in words."""
        return ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if errors := list(self.check()):
            raise InputError(*errors)
        return self

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    def described(self) -> dict[str, Any]:
        """The class and all values as plain data: what a hash or a saved record of this section is made from."""
        values = {name: _plain(getattr(self, name)) for name in type(self).model_fields}
        return {"_target_": f"{type(self).__module__}.{type(self).__qualname__}", **values}


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.described()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
