"""The parameters of a handler: from `params` of a message to the arguments of a function.

Owns: names, order and presence of parameters. Never: the check of one value (`validate`).
"""

from __future__ import annotations

import types
import typing
from typing import Any, Callable, NamedTuple

from .errors import Error
from .schema import Schema, default_of, schema_of
from .validate import Check, Mismatch, anything, check_of
from .validate_class import nearest

MISSING = object()


class Parameter(NamedTuple):
    """A parameter of a function. `kind` is that of `inspect`, in lower case: `plain`, `keyword`, `args`, `kwargs`."""

    name: str
    kind: str
    default: Any


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """Returns the parameters of a function. Reads the code object, because the module `inspect` starts slowly."""
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__") or hasattr(function, "__self__"):
        return _inspected(function)
    if code.co_posonlyargcount > 1:
        raise TypeError("the parameters of a handler have names: remove the / from its definition")
    count = code.co_argcount
    names, defaults = code.co_varnames, function.__defaults__ or ()
    given = dict(zip(names[count - len(defaults) : count], defaults))
    found = [Parameter(name, "plain", given.get(name, MISSING)) for name in names[:count]]
    keyword = names[count : count + code.co_kwonlyargcount]
    given = function.__kwdefaults__ or {}
    found += [Parameter(name, "keyword", given.get(name, MISSING)) for name in keyword]
    rest = list(names[count + code.co_kwonlyargcount :])
    if code.co_flags & 0x04:
        found.append(Parameter(rest.pop(0), "args", MISSING))
    if code.co_flags & 0x08:
        found.append(Parameter(rest.pop(0), "kwargs", MISSING))
    return found


def _inspected(function: Callable[..., Any]) -> list[Parameter]:
    import inspect

    kinds = {"KEYWORD_ONLY": "keyword", "VAR_POSITIONAL": "args", "VAR_KEYWORD": "kwargs"}
    found = []
    for one in inspect.signature(function).parameters.values():
        default = MISSING if one.default is one.empty else one.default
        found.append(Parameter(one.name, kinds.get(one.kind.name, "plain"), default))
    return found


def _hints(function: Any, names: list[str]) -> dict[str, Any]:
    """Returns the type hints of some parameters.

    The others are not evaluated: the type of the context is often imported for type checkers only.
    """
    inner = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    inner = getattr(inner, "__func__", inner)
    own = {name: hint for name, hint in getattr(inner, "__annotations__", {}).items() if name in names}
    holder = types.SimpleNamespace(__annotations__=own)
    try:
        return typing.get_type_hints(holder, getattr(inner, "__globals__", {}), include_extras=True)
    except NameError as error:
        raise TypeError(f"a type hint cannot be evaluated: {error}") from None


def _hint(one: Parameter, hint: Any) -> Any:
    """Returns the type hint of a parameter. One with the default None also accepts null."""
    return typing.Optional[hint] if one.default is None and hint is not Any else hint


class Binding:
    """Turns `params` into arguments: an object into keyword arguments, an array into positional ones, null into none,
    and any other value into the one argument.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        parameters = parameters_of(function)
        if not parameters or parameters[0].kind not in ("plain", "args"):
            raise TypeError("the first parameter of a handler is its context: def handler(ctx, …)")
        self._function = function
        own = parameters if parameters[0].kind == "args" else parameters[1:]
        hints = _hints(function, [one.name for one in own])
        self._hints = {one.name: _hint(one, hints.get(one.name, Any)) for one in own}
        self._checks: dict[str, Check] = {name: check_of(hint) for name, hint in self._hints.items()}
        self._named = [one for one in own if one.kind in ("plain", "keyword")]
        self._plain = [one.name for one in own if one.kind == "plain"]
        self._args = next((self._checks[one.name] for one in own if one.kind == "args"), None)
        self._kwargs = next((self._checks[one.name] for one in own if one.kind == "kwargs"), None)
        self._known = {one.name: self._checks[one.name] for one in self._named}
        self._required = [one.name for one in self._named if one.default is MISSING]

    def bind(self, params: Any) -> tuple[list[Any], dict[str, Any]]:
        """Returns the arguments for `params`.

        Raises Error with the code `malformed` that names the parameter.
        """
        kind = type(params)
        if kind is dict:
            return [], self._keywords(params)
        if kind is list:
            return self._positions(params), {}
        if params is None:
            return [], self._complete({})
        if len(self._named) == 1 and self._args is None:
            name = self._named[0].name
            return [], {name: self._checked(name, self._known[name], params)}
        raise _malformed(f"the parameters are an object or an array, not {Mismatch('', params).got}")

    def _keywords(self, params: dict[str, Any]) -> dict[str, Any]:
        known = self._known
        found = {}
        for name, value in params.items():
            check = known.get(name) or self._kwargs
            if check is None:
                raise _malformed(f"there is no parameter `{name}`{nearest(name, known)}")
            found[name] = value if check is anything else self._checked(name, check, value)
        return self._complete(found)

    def _complete(self, found: dict[str, Any]) -> dict[str, Any]:
        for name in self._required:
            if name not in found:
                raise self._missing(name)
        return found

    def _positions(self, params: list[Any]) -> list[Any]:
        if len(params) > len(self._plain) and self._args is None:
            raise _malformed(f"{len(params)} parameters were given, at most {len(self._plain)} are expected")
        found = [self._checked(name, self._known[name], value) for name, value in zip(self._plain, params)]
        for value in params[len(found) :]:
            found.append(self._checked(f"[{len(found)}]", self._args or anything, value))
        given = set(self._plain[: len(params)])
        for name in self._required:
            if name not in given:
                raise self._missing(name)
        return found

    def _checked(self, name: str, check: Check, value: Any) -> Any:
        try:
            return check(value)
        except Mismatch as mismatch:
            colon = ":" if mismatch.expected else ""
            raise _malformed(f"`{name}{mismatch.where}`{colon} {mismatch}") from None
        except RecursionError:
            raise _malformed(f"`{name}` has too many levels") from None

    def _missing(self, name: str) -> Error:
        try:
            self._known[name](_Nothing)
        except Mismatch as mismatch:
            return _malformed(f"`{name}` is missing" + (f": expected {mismatch.expected}" if mismatch.expected else ""))
        except Exception:
            pass
        return _malformed(f"`{name}` is missing")

    def schema(self) -> Schema:
        """Returns the JSON schema of `params`."""
        described = {one.name: self._described(one) for one in self._named}
        schema: Schema = {} if len(self._named) == 1 else {"type": self._types()}
        schema["properties"] = described
        schema["required"] = list(self._required)
        schema["additionalProperties"] = self._kwargs is not None
        schema["prefixItems"] = [described[name] for name in self._plain]
        schema["minItems"] = len([name for name in self._plain if name in self._required])
        schema["items"] = self._args is not None
        return schema

    def returns(self) -> Schema:
        """Returns the JSON schema of the result; empty if the type hint does not say it or cannot be evaluated."""
        try:
            return schema_of(_hints(self._function, ["return"]).get("return", Any))
        except Exception:  # results are not checked, so their types may be imported for type checkers only
            return {}

    def _types(self) -> list[str]:
        return ["object", "array"] if self._required else ["object", "array", "null"]

    def _described(self, one: Parameter) -> Schema:
        schema = schema_of(self._hints[one.name])
        return schema if one.default is MISSING else {**schema, **default_of(one.default)}


class _Nothing:
    """A value that no type accepts, to find out what a check expects."""


def _malformed(message: str) -> Error:
    return Error("malformed", message)
