"""Frames of the child wire: a length and a JSON object.

Owns: encoding, decoding and the buffer of what was received. Never: the meaning of a message.
"""

from __future__ import annotations

import socket
from json import JSONDecoder, JSONEncoder
from typing import Any, Callable, cast

from .errors import BrokenWire

Message = dict[str, Any]

LIMIT = 1 << 20
"""The largest body of a frame in bytes."""

LEVELS = 64
"""The most levels of arrays and objects in a value."""

_FIRST_BUFFER = 1 << 17


def plain(value: Any) -> Any:
    """Returns the JSON form of a value that the encoder does not know: a dataclass, an enum, a model of pydantic."""
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(value, name) for name in fields}
    if hasattr(type(value), "_member_map_"):  # an enum
        return value.value
    dump = getattr(type(value), "model_dump", None)
    if dump is not None:
        return dump(value, mode="json")
    raise TypeError(f"a value of the type {type(value).__name__} is not JSON")


# the standard encoder is always used: faster ones write NaN as null, and results must not depend on what is installed
encode_text: Callable[[Any], str] = JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain
).encode


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decoder = JSONDecoder(parse_constant=_no_constant)
_scan = cast("Callable[[str, int], tuple[Any, int]]", _decoder.scan_once)  # type: ignore[attr-defined]


def _standard_loads(data: bytes | memoryview) -> Any:
    text = str(data, "utf-8")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    if end != len(text):
        value = _decoder.decode(text)
    return value


_LARGE = 1 << 14
_load_large: Callable[[bytes | memoryview], Any] | None = None


def loads(data: bytes | memoryview) -> Any:
    """Returns the value of JSON in UTF-8. A large text is read by `orjson` if it is installed.

    Raises ValueError if it is not JSON.
    """
    return _standard_loads(data) if len(data) < _LARGE else (_load_large or _choose_large())(data)


def _choose_large() -> Callable[[bytes | memoryview], Any]:
    """Imports `orjson` at the first large text, because this takes longer than the rest of the start."""
    global _load_large
    try:
        import orjson

        _load_large = orjson.loads
    except ImportError:
        _load_large = _standard_loads
    return _load_large


def encode(value: Any) -> bytes:
    """Returns a value as JSON in UTF-8.

    Raises ValueError or TypeError if it is not JSON, or if it has more levels than the wire allows.
    """
    text = encode_text(value)
    # only a text with many brackets can have many levels
    if len(text) > 2 * LEVELS and text.count("[") + text.count("{") > LEVELS and _is_deeper(value, LEVELS):
        raise ValueError(f"it has more than {LEVELS} levels")
    return text.encode()


def _is_deeper(value: Any, levels: int) -> bool:
    """Returns whether a value has more levels of arrays and objects."""
    if isinstance(value, dict):
        children: Any = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    else:
        return False
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)


def pack(body: bytes) -> bytes:
    """Returns the frame of an encoded body."""
    return len(body).to_bytes(4, "big") + body


def frame(message: Message) -> bytes:
    """Returns the frame of a message."""
    return pack(encode(message))


class FrameReader:
    """Receives frames from a socket into one buffer, which it uses again for the next ones."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = memoryview(bytearray(_FIRST_BUFFER))
        self._start = 0
        self._end = 0

    def buffered(self) -> Message | None:
        """Returns the next message that has been received whole, or None.

        Raises BrokenWire for a frame that is too long, not JSON, or without a type.
        """
        start = self._start
        if self._end - start < 4:
            return None
        length = int.from_bytes(self._buffer[start : start + 4], "big")
        if length > LIMIT:
            raise BrokenWire(f"a frame of {length} bytes; the limit is {LIMIT}")
        stop = start + 4 + length
        if stop > self._end:
            return None
        try:
            message = loads(self._buffer[start + 4 : stop])
            self._start = stop
            if type(message["t"]) is str:
                return message  # type: ignore[no-any-return]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BrokenWire(f"a frame that is no message: {error}") from None
        raise BrokenWire("a frame without a type")

    def receive(self, flags: int = 0) -> bool:
        """Receives what there is. Returns False if nothing could be received without blocking, which `flags` forbid.

        Raises EOFError at the end of the stream.
        """
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            self._make_room()
        try:
            count = self._sock.recv_into(self._buffer[self._end :], 0, flags)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            count = 0
        if count == 0:
            raise EOFError
        self._end += count
        return True

    def next(self) -> Message:
        """Returns the next message and waits for it."""
        message = self.buffered()
        while message is None:
            self.receive()
            message = self.buffered()
        return message

    def _make_room(self) -> None:
        """Moves the rest of a frame to the start of a buffer that has room for all of it."""
        rest = bytes(self._buffer[self._start : self._end])
        if len(rest) > len(self._buffer) // 2:
            self._buffer = memoryview(bytearray(min(2 * len(self._buffer), LIMIT + 4)))
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
