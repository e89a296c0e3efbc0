"""A declared state: between the plain mapping that is kept and journalled, and the pydantic model that its author reads.

The one place of the framework that knows pydantic's models. It is *not* used for plain states. Rules: what the model makes
of the state is the state (its defaults, its coercions, its validators), so what is kept is always the model's own dump;
a field that the model does not have is refused, unless the model says `extra="allow"`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from procession.agent_proc.agent.texts import near
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import AnyOp, SetPath, Value
from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

if TYPE_CHECKING:
    from pydantic import BaseModel

StructT = TypeVar("StructT", bound=msgspec.Struct)

_PROBLEMS_SHOWN_MAX: Final = 5


class Unfit(Exception):
    """A state that the model does not take; the text says where and why."""


@dataclass(frozen=True, slots=True)
class StateModel:
    """A model as what states are read with. fields: their names. takes_more: `extra="allow"`."""

    type: type[BaseModel]
    fields: frozenset[str]
    takes_more: bool

    def load(self, data: Mapping[str, Value]) -> BaseModel:
        """Return `data` as the model. It may share containers with `data`. Raises Unfit."""
        from pydantic import ValidationError

        if not self.takes_more and not data.keys() <= self.fields:
            name = next(str(key) for key in data if key not in self.fields)
            raise Unfit(f"{self.type.__name__} has no field {name}; {near(name, self.fields)}")
        try:
            return self.type.model_validate(data)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            told = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in problems[:_PROBLEMS_SHOWN_MAX]]
            if len(problems) > _PROBLEMS_SHOWN_MAX:
                told.append(f"and {len(problems) - _PROBLEMS_SHOWN_MAX} more")
            raise Unfit("; ".join(told)) from None
        except Exception as error:
            raise _author_fault(error) from error

    def copy(self, model: BaseModel) -> BaseModel:
        """Return a model that is equal and shares nothing that can be changed. Raises Unfit."""
        return self.load(_dumped(model))

    def dump(self, model: BaseModel) -> dict[str, Value]:
        """Return a model as plain data. Raises Unfit for a field that no state can hold."""
        try:
            data: dict[str, Value] = plain(_dumped(model))
        except UnsupportedValue as error:
            raise Unfit(str(error)) from None
        return data

    def settle(self, data: Mapping[str, Value], changed: Collection[str]) -> list[AnyOp]:
        """Return the ops that make `data`, of which the fields `changed` are new, what the model makes of it. Raises Unfit."""
        settled = self.dump(self.load(data))
        return [
            SetPath((name,), value)
            for name, value in settled.items()
            if name not in data or not (same(data[name], value) if name in changed else data[name] == value)
        ]


def state_model(model: type[BaseModel], owner: str) -> StateModel:
    """Return `model` for use. Raises InvalidRequest, code invalid_agent, for one whose dump is not what it reads."""
    for name, field in model.model_fields.items():
        if field.alias or field.validation_alias or field.serialization_alias or field.exclude:
            raise InvalidRequest(
                f"the field {name} of {model.__name__}, the state of {owner}, has an alias or is excluded",
                code="invalid_agent",
                hint="a field of a state is kept under its own name",
            )
    return StateModel(model, frozenset(model.model_fields), model.model_config.get("extra") == "allow")


def is_unchanged(seen: BaseModel, kept: BaseModel) -> bool:
    """Say whether `seen`, a copy of `kept` that was handed out, is still what it was. Raises Unfit."""
    return _dumped(kept) == _dumped(seen)


def _dumped(model: BaseModel) -> dict[str, Any]:
    try:
        return model.model_dump(round_trip=True, by_alias=True)
    except Exception as error:
        raise _author_fault(error) from error


def _author_fault(error: Exception) -> Unfit:
    """Return the error for a validator or serializer of the model's author that raised something of its own."""
    return Unfit(f"its model raised {type(error).__name__}: {error}")


def plain(value: object) -> Any:
    """Return `value` as data of the closed table: itself, or what its models, dataclasses and enums hold.

    Raises UnsupportedValue.
    """
    try:
        encode_value(value, nodes_max=RESULT_NODES_MAX)
    except UnsupportedValue:
        return decode_value(encode_value(value, lossy=True, nodes_max=RESULT_NODES_MAX), nodes_max=RESULT_NODES_MAX)
    return value


def with_plain_data(struct: StructT, fields: Collection[str]) -> StructT:
    """Return an op or a directive with plain data in these of its fields, if it has them. Raises UnsupportedValue."""
    changed = {
        name: data
        for name in struct.__struct_fields__
        if name in fields and (data := plain(value := getattr(struct, name))) is not value
    }
    return msgspec.structs.replace(struct, **changed) if changed else struct


def same(one: object, other: object) -> bool:
    """Say whether two pieces of data are equal and of the same types; NaN is NaN, and the order of keys says nothing."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        assert isinstance(other, float)
        return one == other or (math.isnan(one) and math.isnan(other))
    return one == other
