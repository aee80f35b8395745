"""Validation of JSON values by type hints.

Owns: one check per type hint, built once for each parameter. Never: the names of parameters (`binding`).

A check takes a JSON value and returns the Python value, or raises `Mismatch`. Containers put their position in front of
a mismatch, so that a valid value costs nothing for it.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from typing import Annotated, Any, Callable, Literal, Union

Check = Callable[[Any], Any]

NONE = type(None)


class Mismatch(Exception):
    """A value that is not what a type hint says. `where` is the path below the parameter, as `[2].price`."""

    def __init__(self, expected: str, value: Any, where: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.got = describe(value)
        self.where = where

    def below(self, step: str) -> Mismatch:
        """Returns the mismatch with a step in front of its path."""
        self.where = step + self.where
        return self

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.got}"


class Problem(Mismatch):
    """A mismatch with a text of its own, as for a member that is missing."""

    def __init__(self, text: str, where: str = "") -> None:
        super().__init__("", None, where)
        self.text = text

    def __str__(self) -> str:
        return self.text


def describe(value: Any) -> str:
    """Returns a JSON value as a person would name it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value if len(value) <= 40 else value[:40] + '…'!r}"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    return "an object"


def anything(value: Any) -> Any:
    return value


def _none(value: Any) -> Any:
    if value is not None:
        raise Mismatch("null", value)
    return value


def _string(value: Any) -> Any:
    if type(value) is not str:
        raise Mismatch("a string", value)
    return value


def _boolean(value: Any) -> Any:
    if type(value) is not bool:
        raise Mismatch("true or false", value)
    return value


def _integer(value: Any) -> Any:
    if type(value) is int:
        return value
    # JSON has one kind of number: 3.0 is 3
    if type(value) is float and value.is_integer():
        return int(value)
    raise Mismatch("an integer", value)


def _number(value: Any) -> Any:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    raise Mismatch("a number", value)


def _list(value: Any) -> Any:
    if type(value) is not list:
        raise Mismatch("an array", value)
    return value


def _object(value: Any) -> Any:
    if type(value) is not dict:
        raise Mismatch("an object", value)
    return value


def _parsed(name: str, text: str) -> Check:
    """Returns the check of a class of the standard library that is written as a string."""

    def check(value: Any) -> Any:
        if type(value) is str:
            import datetime
            import uuid

            try:
                if name == "UUID":
                    return uuid.UUID(value)
                # Python 3.10 does not read the Z that browsers write
                return getattr(datetime, name).fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
            except ValueError:
                pass
        raise Mismatch(text, value)

    return check


_PLAIN: dict[Any, Check] = {
    Any: anything,
    object: anything,
    NONE: _none,
    None: _none,
    str: _string,
    bool: _boolean,
    int: _integer,
    float: _number,
    list: _list,
    dict: _object,
    collections.abc.Sequence: _list,
    collections.abc.Iterable: _list,
    collections.abc.Mapping: _object,
}

_PARSED = {
    ("datetime", "datetime"): _parsed("datetime", "a date and time such as 2026-03-01T12:00:00Z"),
    ("datetime", "date"): _parsed("date", "a date such as 2026-03-01"),
    ("uuid", "UUID"): _parsed("UUID", "a UUID"),
}

_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.MutableSequence)
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_UNIONS = (Union, getattr(types, "UnionType", Union))


def check_of(hint: Any) -> Check:
    """Returns the check of a type hint.

    Raises TypeError if values of this type cannot be read from JSON.
    """
    try:
        if hint in _PLAIN:
            return _PLAIN[hint]
    except TypeError:  # a hint that cannot be hashed
        pass
    origin = typing.get_origin(hint)
    if origin is not None:
        return _generic(hint, origin, typing.get_args(hint))
    supertype = getattr(hint, "__supertype__", None)  # NewType
    if supertype is not None:
        return check_of(supertype)
    if isinstance(hint, typing.TypeVar):
        return check_of(hint.__bound__) if hint.__bound__ else anything
    if isinstance(hint, type):
        from .validate_class import class_check

        known = _PARSED.get((hint.__module__, hint.__name__))
        return known or class_check(hint)
    raise TypeError(f"{hint!r} is no type that JSON can be checked against")


def _generic(hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Check:
    if origin is Annotated or getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):
        return check_of(arguments[0])
    if origin in _UNIONS:
        return _union([check_of(one) for one in arguments])
    if origin is Literal:
        return _literal(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin in (set, frozenset):
        return _items(check_of(arguments[0]), origin)
    if origin in _LISTS:
        return _items(check_of(arguments[0]), None)
    if origin in _OBJECTS:
        return _members(arguments[0], check_of(arguments[1]))
    if isinstance(origin, type):
        from .validate_class import class_check

        return class_check(origin)
    raise TypeError(f"{hint!r} is no type that JSON can be checked against")


def _union(checks: list[Check]) -> Check:
    # an integer stays one for `float | int`
    checks = sorted(checks, key=lambda one: one is _number)

    def check(value: Any) -> Any:
        expected: list[str] = []
        deepest: Mismatch | None = None
        for one in checks:
            try:
                return one(value)
            except Mismatch as mismatch:
                if mismatch.where and (deepest is None or len(mismatch.where) > len(deepest.where)):
                    deepest = mismatch
                elif mismatch.expected and mismatch.expected not in expected:
                    expected.append(mismatch.expected)
        if deepest is not None:
            raise deepest
        raise Mismatch(" or ".join(expected), value)

    return check


def _literal(choices: tuple[Any, ...]) -> Check:
    text = _choices(choices)

    def check(value: Any) -> Any:
        for choice in choices:
            # True == 1, but true is not 1
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
        raise Mismatch(text, value)

    return check


def _choices(choices: tuple[Any, ...]) -> str:
    shown = [f'"{one}"' if isinstance(one, str) else describe(one).removeprefix("the number ") for one in choices]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def enum_check(kind: Any) -> Check:
    """Returns the check of an enum: its members are written as their values."""
    members = {(isinstance(member.value, bool), member.value): member for member in kind}
    text = _choices(tuple(member.value for member in kind))

    def check(value: Any) -> Any:
        try:
            return members[(isinstance(value, bool), value)]
        except (KeyError, TypeError):
            raise Mismatch(text, value) from None

    return check


def _items(check_item: Check, build: Any) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise Mismatch("an array", value)
        done = []
        try:
            for item in value:
                done.append(check_item(item))
            return done if build is None else build(done)
        except Mismatch as mismatch:
            raise mismatch.below(f"[{len(done)}]") from None
        except TypeError:  # an item of a set that cannot be hashed
            raise Mismatch("an array of strings, numbers or booleans", value) from None

    return check


def _tuple(arguments: tuple[Any, ...]) -> Check:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return _items(check_of(arguments[0]), tuple)
    checks = [check_of(one) for one in arguments]

    def check(value: Any) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise Mismatch(f"an array of {len(checks)}", value)
        done: list[Any] = []
        try:
            for one, item in zip(checks, value):
                done.append(one(item))
        except Mismatch as mismatch:
            raise mismatch.below(f"[{len(done)}]") from None
        return tuple(done)

    return check


def _members(key: Any, check_value: Check) -> Check:
    check_key = check_of(key) if key is not str else anything

    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch("an object", value)
        done = {}
        for name, item in value.items():
            try:
                done[_key(check_key, name)] = check_value(item)
            except Mismatch as mismatch:
                raise mismatch.below(f".{name}") from None
        return done

    return check


def _key(check: Check, name: str) -> Any:
    """Returns the key of an object, which JSON writes as a string even if the type hint is `int`."""
    if check is _integer:
        try:
            return int(name)
        except ValueError:
            raise Mismatch("an integer as the key", name) from None
    return check(name)
