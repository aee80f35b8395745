"""Parameters are validated from type hints."""

from __future__ import annotations

import enum
import typing
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import Annotated, Any, Literal, NewType, Optional, Sequence, TypedDict, Union
from uuid import UUID

import pytest

from pagewire import Error
from pagewire.binding import Binding
from pagewire.schema import schema_of
from pagewire.validate import Mismatch, check_of


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Line:
    article: str
    amount: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass
class Order:
    lines: list[Line]
    note: Optional[str] = None
    parent: Optional[Order] = None


@dataclass
class Positive:
    value: int

    def __post_init__(self):
        if self.value < 0:
            raise ValueError("the value is below 0")


class Address(TypedDict):
    street: str


class Person(Address, total=False):
    name: str
    age: int


UserId = NewType("UserId", str)


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (str, "a", "a"),
        (int, 3, 3),
        (int, 3.0, 3),
        (float, 3, 3.0),
        (bool, True, True),
        (None, None, None),
        (Any, {"a": [1]}, {"a": [1]}),
        (object, 1, 1),
        (list, [1, "a"], [1, "a"]),
        (dict, {"a": 1}, {"a": 1}),
        (list[int], [1, 2], [1, 2]),
        (Sequence[str], ["a"], ["a"]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict[int, str], {"7": "a"}, {7: "a"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (set[int], [1, 1], {1}),
        (Optional[int], None, None),
        (Union[int, str], "a", "a"),
        (Union[float, int], 3, 3),
        (Literal["a", 1], 1, 1),
        (Annotated[int, "a note"], 5, 5),
        (UserId, "ada", "ada"),
        (Color, "red", Color.RED),
        (Level, 2, Level.HIGH),
        (Line, {"article": "a"}, Line("a")),
        (Order, {"lines": [{"article": "a", "amount": 2}]}, Order([Line("a", 2)])),
        (Order, {"lines": [], "parent": {"lines": []}}, Order([], None, Order([]))),
        (Person, {"street": "s"}, {"street": "s"}),
        (datetime, "2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=timezone.utc)),
        (date, "2026-03-01", date(2026, 3, 1)),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (typing.List[typing.Dict[str, bool]], [{"a": True}], [{"a": True}]),
    ],
)
def test_a_value_of_the_type_is_accepted(hint, value, expected):
    checked = check_of(hint)(value)
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "where", "text"),
    [
        (str, 1, "", "expected a string, got the number 1"),
        (int, True, "", "expected an integer, got true"),
        (int, 1.5, "", "expected an integer, got the number 1.5"),
        (int, "1", "", "expected an integer, got the string '1'"),
        (float, "1", "", "expected a number, got the string '1'"),
        (float, 10**400, "", "expected a number"),
        (bool, 0, "", "expected true or false, got the number 0"),
        (str, None, "", "expected a string, got null"),
        (list[int], {"a": 1}, "", "expected an array, got an object"),
        (list[int], [1, "a"], "[1]", "expected an integer, got the string 'a'"),
        (dict[str, int], {"a": "x"}, ".a", "expected an integer, got the string 'x'"),
        (dict[int, int], {"a": 1}, ".a", "expected an integer as the key"),
        (tuple[int, str], [1], "", "expected an array of 2, got an array of 1"),
        (set[str], [{}], "[0]", "expected a string, got an object"),
        (set, [{}], "", "expected an array of strings, numbers or booleans"),
        (Optional[int], "a", "", "expected an integer or null, got the string 'a'"),
        (Union[int, list[int]], ["a"], "[0]", "expected an integer, got the string 'a'"),
        (Literal["a", "b", 1], True, "", 'expected "a", "b" or 1, got true'),
        (Color, "green", "", 'expected "red" or "blue", got the string \'green\''),
        (Line, {"article": "a", "amount": None}, ".amount", "expected an integer, got null"),
        (Line, {}, ".article", "is missing"),
        (Line, {"article": "a", "amout": 1}, ".amout", "is unknown: did you mean `amount`?"),
        (Order, {"lines": [{"article": 1}]}, ".lines[0].article", "expected a string, got the number 1"),
        (Positive, {"value": -1}, "", "is not accepted: the value is below 0"),
        (Person, {"name": "n"}, ".street", "is missing"),
        (datetime, "soon", "", "expected a date and time such as 2026-03-01T12:00:00Z, got the string 'soon'"),
        (UUID, "1", "", "expected a UUID"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(hint, value, where, text):
    with pytest.raises(Mismatch) as raised:
        check_of(hint)(value)
    assert raised.value.where == where
    assert str(raised.value).startswith(text)


def test_a_long_string_is_shown_in_part():
    with pytest.raises(Mismatch) as raised:
        check_of(int)("x" * 1000)
    assert len(str(raised.value)) < 100


def test_a_type_that_json_cannot_be_checked_against_is_refused():
    class Thing:
        pass

    def handler(ctx, thing: Thing):
        pass

    handler.__annotations__["thing"] = Thing
    with pytest.raises(TypeError, match="Thing is no type that JSON can be checked against"):
        Binding(handler)


def bound(function, params):
    arguments, keywords = Binding(function).bind(params)
    return function(None, *arguments, **keywords)


def malformed(function, params):
    with pytest.raises(Error) as raised:
        bound(function, params)
    assert raised.value.code == "malformed"
    assert not raised.value.retryable
    return raised.value.message


def test_an_object_gives_keyword_arguments_and_an_array_positional_ones():
    def handler(ctx, a: int, b: str = "x", *, c: bool = False):
        return a, b, c

    assert bound(handler, {"a": 1, "c": True}) == (1, "x", True)
    assert bound(handler, [1, "y"]) == (1, "y", False)
    assert malformed(handler, [1, "y", True]) == "3 parameters were given, at most 2 are expected"
    assert malformed(handler, "text") == "the parameters are an object or an array, not the string 'text'"


def test_any_other_value_is_the_one_parameter():
    def handler(ctx, q: str):
        return q

    def optional(ctx, q: str = None):
        return q

    assert bound(handler, "text") == "text"
    assert malformed(handler, 5) == "`q`: expected a string, got the number 5"
    assert malformed(handler, None) == "`q` is missing: expected a string"
    assert bound(optional, None) is None
    assert bound(optional, {"q": None}) is None


def test_a_handler_may_take_any_number_of_parameters():
    def handler(ctx, *numbers: int, **names: str):
        return numbers, names

    assert bound(handler, [1, 2]) == ((1, 2), {})
    assert bound(handler, {"a": "x"}) == ((), {"a": "x"})
    assert malformed(handler, [1, "a"]) == "`[1]`: expected an integer, got the string 'a'"
    assert malformed(handler, {"a": 1}) == "`a`: expected a string, got the number 1"


def test_a_decorated_function_keeps_its_parameters():
    import functools

    def decorate(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs)

        return inner

    @decorate
    def handler(ctx, a: int):
        return a

    assert bound(handler, [1]) == 1
    assert malformed(handler, {"b": 1}) == "there is no parameter `b`"


def test_a_method_of_an_object_is_a_handler():
    class Shop:
        def sell(self, ctx, amount: int):
            return self, amount

    shop = Shop()
    assert bound(shop.sell, {"amount": 2}) == (shop, 2)


def test_the_type_of_the_context_may_be_unknown_at_run_time():
    def handler(ctx: OnlyForTypeCheckers, a: int) -> OnlyForTypeCheckers:  # noqa: F821
        return a

    def unknown(ctx, a: NotImported):  # noqa: F821
        pass

    assert bound(handler, [1]) == 1
    with pytest.raises(TypeError, match="a type hint cannot be evaluated: name 'NotImported' is not defined"):
        Binding(unknown)


def test_a_handler_without_context_is_refused():
    with pytest.raises(TypeError, match="the first parameter of a handler is its context"):
        Binding(lambda: None)


def test_the_schema_describes_objects_and_arrays():
    def handler(ctx, order: Order, color: Color = Color.RED, urgent: bool = False):
        pass

    schema = Binding(handler).schema()
    assert schema["type"] == ["object", "array"]
    assert schema["required"] == ["order"]
    assert schema["properties"]["color"] == {"enum": ["red", "blue"], "default": "red"}
    assert schema["properties"]["order"]["properties"]["lines"]["items"]["required"] == ["article"]
    assert schema["properties"]["order"]["properties"]["parent"] == {"anyOf": [{}, {"type": "null"}]}
    assert (schema["minItems"], len(schema["prefixItems"]), schema["items"]) == (1, 3, False)


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (Any, {}),
        (None, {"type": "null"}),
        (Optional[str], {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (datetime, {"type": "string", "format": "date-time"}),
        (
            Person,
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["street"],
                "properties": {"street": {"type": "string"}, "name": {"type": "string"}, "age": {"type": "integer"}},
            },
        ),
    ],
)
def test_a_type_has_a_schema(hint, schema):
    assert schema_of(hint) == schema


def test_models_of_pydantic_are_parameters_and_results():
    pydantic = pytest.importorskip("pydantic")
    from pagewire.wire import encode

    class Item(pydantic.BaseModel):
        name: str
        price: float = pydantic.Field(gt=0)

    def handler(ctx, item, items=()):
        return item

    handler.__annotations__.update(item=Item, items=list[Item])
    assert bound(handler, {"item": {"name": "a", "price": 1}}) == Item(name="a", price=1)
    message = malformed(handler, {"item": {"name": "a", "price": 1}, "items": [{"name": "b", "price": -1}]})
    assert message == "`items[0].price` is not accepted: Input should be greater than 0"
    assert encode(Item(name="a", price=1)) == b'{"name":"a","price":1.0}'
    assert Binding(handler).schema()["properties"]["item"]["required"] == ["name", "price"]
