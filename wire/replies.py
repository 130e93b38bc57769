"""Replies of a peer with every text in them cleaned, whatever the call and the field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from wire.text import LINE_CHARS, line

_PATH_CHARS = 4096
_LONGEST = {"trace": _PATH_CHARS, "flow_directory": _PATH_CHARS}
"""Fields of the contract that may be longer than a line: paths, as long as Linux allows them."""

_M = TypeVar("_M", bound=Message)


def clean_reply(message: _M) -> _M:
    """Clean every text of a message, those of the messages in it too; returns the message."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            _clean_strings(message, field.name, value)
        elif field.type == field.TYPE_MESSAGE:
            for inner in _messages(field, message, value):
                clean_reply(inner)
    return message


class CleanReplies:
    """A channel for stubs whose replies come cleaned, of all calls and all fields."""

    def __init__(self, channel: grpc.Channel) -> None:
        """Over `channel`, which stays who opens and closes it."""
        self._channel = channel

    def unary_unary(self, method: str, **how: Any) -> Any:
        """See `grpc.Channel`."""
        return self._channel.unary_unary(method, **_cleaning(how))

    def unary_stream(self, method: str, **how: Any) -> Any:
        """See `grpc.Channel`."""
        return self._channel.unary_stream(method, **_cleaning(how))

    def stream_unary(self, method: str, **how: Any) -> Any:
        """See `grpc.Channel`."""
        return self._channel.stream_unary(method, **_cleaning(how))

    def stream_stream(self, method: str, **how: Any) -> Any:
        """See `grpc.Channel`."""
        return self._channel.stream_stream(method, **_cleaning(how))


def clean_replies(channel: grpc.Channel) -> grpc.Channel:
    """`channel` as a generated stub takes it, with every reply cleaned."""
    return cast("grpc.Channel", CleanReplies(channel))


def _cleaning(how: dict[str, Any]) -> dict[str, Any]:
    read: Callable[[bytes], Message] = how["response_deserializer"]
    return {**how, "response_deserializer": lambda data: clean_reply(read(data))}


def _clean_strings(message: Message, name: str, value: Any) -> None:
    longest = _LONGEST.get(name, LINE_CHARS)
    if isinstance(value, str):
        setattr(message, name, line(value, longest))
        return
    for i, each in enumerate(value):
        value[i] = line(each, longest)


def _messages(field: Any, message: Message, value: Any) -> Iterable[Message]:
    """The messages in a field. The keys of a map are cleaned on the way."""
    if not (field.message_type and field.message_type.GetOptions().map_entry):
        return value if field.is_repeated else (value,)
    kinds = field.message_type.fields_by_name
    if kinds["key"].type == field.TYPE_STRING:
        _clean_keys(getattr(message, field.name), kinds["value"])
    return ()


def _clean_keys(entries: Any, value: Any) -> None:
    """The contract's maps go from names to numbers; two names that look alike become one."""
    assert value.message_type is None, "a map of messages would have to be cleaned as well"  # noqa: S101
    dirty = {key: number for key, number in entries.items() if line(key) != key}
    for key, number in dirty.items():
        del entries[key]
        entries[line(key)] = number
