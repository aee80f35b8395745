"""JSON schemas of type hints, for people and tools that read `ready` or `GET /executors`.

Owns: the schema of a type hint. Never: validation (`validate`).
"""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal, Union

from . import validate_class as classes
from .wire import plain

Schema = dict[str, Any]

_NAMES: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    None: {"type": "null"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    set: {"type": "array", "uniqueItems": True},
    frozenset: {"type": "array", "uniqueItems": True},
    dict: {"type": "object"},
}
_FORMATS = {("datetime", "datetime"): "date-time", ("datetime", "date"): "date", ("uuid", "UUID"): "uuid"}


def schema_of(hint: Any, outer: tuple[Any, ...] = ()) -> Schema:
    """Returns the JSON schema of a type hint. `outer` are the classes around it: a class in itself is not described."""
    origin = typing.get_origin(hint)
    if origin is not None:
        return _generic(origin, typing.get_args(hint), outer)
    if hasattr(hint, "__supertype__"):
        return schema_of(hint.__supertype__, outer)
    if not isinstance(hint, type):
        return dict(_NAMES.get(hint, {})) if hint is None else {}
    if hint in _NAMES:
        return dict(_NAMES[hint])
    known = _FORMATS.get((hint.__module__, hint.__name__))
    if known:
        return {"type": "string", "format": known}
    return {} if hint in outer else _class(hint, (*outer, hint))


def _generic(origin: Any, arguments: tuple[Any, ...], outer: tuple[Any, ...]) -> Schema:
    if origin is Annotated or getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):
        return schema_of(arguments[0], outer)
    if origin is Union or origin is getattr(types, "UnionType", Union):
        return {"anyOf": [schema_of(one, outer) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        items = [schema_of(one, outer) for one in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (set, frozenset):
        return {"type": "array", "items": schema_of(arguments[0], outer), "uniqueItems": True}
    if len(arguments) == 2 and origin is not tuple:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], outer)}
    if arguments:
        return {"type": "array", "items": schema_of(arguments[0], outer)}
    return {}


def _class(kind: Any, outer: tuple[Any, ...]) -> Schema:
    if classes.is_model(kind):
        return dict(kind.model_json_schema())
    if hasattr(kind, "__dataclass_fields__"):
        hints, fields = classes.hints_of(kind), classes.fields_of(kind)
        required = [name for name, field in fields.items() if not classes.has_default(field)]
        return _object({name: schema_of(hints[name], outer) for name in fields}, required)
    if classes.is_typed_dict(kind):
        hints = classes.hints_of(kind)
        required = sorted(classes.required_keys(kind))
        return _object({name: schema_of(hint, outer) for name, hint in hints.items()}, required)
    if hasattr(kind, "_member_map_"):
        return {"enum": [member.value for member in kind]}
    return {}


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def default_of(value: Any) -> Schema:
    """Returns the member `default` of a schema, or nothing if the value is not plain JSON."""
    if value is None or isinstance(value, (str, bool, int)):
        return {"default": value}
    try:
        return {"default": plain(value)} if hasattr(type(value), "_member_map_") else {}
    except TypeError:
        return {}
