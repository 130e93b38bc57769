"""Calls from which something is awaited, so that one on which nothing comes can be ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from threading import Lock
from typing import TypeVar

import grpc
import structlog

_Message = TypeVar("_Message")
_log = structlog.get_logger("wire.hosting.silence")


class Silence:
    """When something last came on each call. Thread-safe."""

    def __init__(self, idle_s: float, now: Callable[[], float] = time.monotonic) -> None:
        """No call is open.

        Args:
            idle_s: how long nothing may come.
            now: seconds.
        """
        self._idle_s = idle_s
        self._now = now
        self._lock = Lock()
        self._last: dict[grpc.ServicerContext, float] = {}

    def watched(
        self, messages: Iterator[_Message], context: grpc.ServicerContext
    ) -> Generator[_Message]:
        """The messages of a call, noting when each came; over when it is closed."""
        with self._lock:
            self._last[context] = self._now()
        try:
            for message in messages:
                self._last[context] = self._now()
                yield message
        finally:
            with self._lock:
                self._last.pop(context, None)

    def end(self) -> None:
        """Cancel the calls on which nothing came for too long: each holds a thread."""
        too_old = self._now() - self._idle_s
        with self._lock:
            silent = [context for context, last in self._last.items() if last < too_old]
        for context in silent:
            _log.warning("silent call ended", peer=context.peer(), idle_s=self._idle_s)
            context.cancel()
