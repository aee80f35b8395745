"""Validation of objects by classes: dataclasses, TypedDict, enums and models of pydantic.

Owns: the check of a class. Never: the check of any other type hint (`validate`).
"""

from __future__ import annotations

import sys
import typing
from typing import Any, Callable

from .validate import Check, Mismatch, Problem, check_of, enum_check


def class_check(kind: Any) -> Check:
    """Returns the check of a class.

    Raises TypeError if objects of this class cannot be read from JSON.
    """
    if is_model(kind):
        return _model(kind)
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass(kind)
    if is_typed_dict(kind):
        return _typed_dict(kind)
    if hasattr(kind, "_member_map_"):
        return enum_check(kind)
    if kind in (tuple, set, frozenset):
        return _sequence(kind)
    raise TypeError(f"{kind.__qualname__} is no type that JSON can be checked against")


def is_model(kind: Any) -> bool:
    """Returns whether a class is a model of pydantic. Does not import pydantic: only its user does."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def is_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def required_keys(kind: Any) -> frozenset[str]:
    """Returns the required keys of a TypedDict, also where its module postpones annotations."""
    required = set()
    for name, hint in hints_of(kind).items():
        mark = getattr(typing.get_origin(hint), "_name", "")
        if mark == "Required" or (mark != "NotRequired" and name in kind.__required_keys__):
            required.add(name)
    return frozenset(required)


def hints_of(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def has_default(field: Any) -> bool:
    """Returns whether a field of a dataclass may be absent."""
    missing = sys.modules["dataclasses"].MISSING
    return field.default is not missing or field.default_factory is not missing


def fields_of(kind: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that its constructor takes."""
    own = kind.__dataclass_fields__
    real = {name: field for name, field in own.items() if field._field_type.name == "_FIELD"}
    return {name: field for name, field in real.items() if field.init}


def _checks(names: typing.Iterable[str], hints: dict[str, Any]) -> dict[str, Check]:
    return {name: check_of(hints[name]) for name in names}


def _lazily(build: Callable[[], Check]) -> Check:
    """Returns a check that is built at its first use, so that a class may contain itself."""
    built: list[Check] = []

    def check(value: Any) -> Any:
        if not built:
            built.append(build())
        return built[0](value)

    return check


_open: dict[Any, None] = {}


def _once(kind: Any, build: Callable[[], Check]) -> Check:
    if kind in _open:
        return _lazily(build)
    _open[kind] = None
    try:
        return build()
    finally:
        del _open[kind]


def _dataclass(kind: Any) -> Check:
    def build() -> Check:
        fields = fields_of(kind)
        checks = _checks(fields, hints_of(kind))
        required = frozenset(name for name, field in fields.items() if not has_default(field))
        members = _object_check(checks, required)

        def check(value: Any) -> Any:
            try:
                return kind(**members(value))
            except (ValueError, TypeError) as error:  # of __post_init__
                raise Problem(f"is not accepted: {error}") from None

        return check

    return _once(kind, build)


def _typed_dict(kind: Any) -> Check:
    def build() -> Check:
        hints = hints_of(kind)
        return _object_check(_checks(hints, hints), required_keys(kind))

    return _once(kind, build)


def _object_check(checks: dict[str, Check], required: frozenset[str]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch("an object", value)
        done = {}
        for name, item in value.items():
            member = checks.get(name)
            if member is None:
                raise Problem("is unknown" + nearest(name, checks), f".{name}")
            try:
                done[name] = member(item)
            except Mismatch as mismatch:
                raise mismatch.below(f".{name}") from None
        for name in required:
            if name not in done:
                raise Problem("is missing", f".{name}")
        return done

    return check


def nearest(name: str, names: typing.Iterable[str]) -> str:
    """Returns `: did you mean …?` for a name that is close to a known one, else an empty text."""
    import difflib

    close = difflib.get_close_matches(name, list(names), 1)
    return f": did you mean `{close[0]}`?" if close else ""


def _model(kind: Any) -> Check:
    validate = kind.model_validate
    error_type = sys.modules["pydantic"].ValidationError

    def check(value: Any) -> Any:
        try:
            return validate(value)
        except error_type as error:
            first = error.errors(include_url=False)[0]
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
            raise Problem(f"is not accepted: {first['msg']}", "".join(steps)) from None

    return check


def _sequence(kind: Any) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise Mismatch("an array", value)
        try:
            return kind(value)
        except TypeError:
            raise Mismatch("an array of strings, numbers or booleans", value) from None

    return check
