"""Calls from which something is awaited, so that one on which nothing comes can be ended.

Something is a message, or part of one: on a slow link a message takes longer than a peer may be
silent, and its bytes come all the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from threading import Lock
from typing import TypeVar

import grpc
import structlog

from wire.tcp import IdleWatch

_Message = TypeVar("_Message")
_log = structlog.get_logger("wire.hosting.silence")


class _Watched:
    """A call, and when something last came on it."""

    def __init__(self, peer: str, idle_s: float, now_s: float) -> None:
        self.last_s = now_s
        self._idle_s = idle_s
        self._idle_watch = IdleWatch(peer, idle_s)

    def is_silent(self, now_s: float) -> bool:
        """Whether neither a message nor part of one came for too long."""
        if not self._idle_watch.came(self.last_s, now_s):
            return True
        if now_s - self.last_s > self._idle_s:
            self.last_s = now_s
        return False


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
        self._calls: dict[grpc.ServicerContext, _Watched] = {}

    def watched(
        self, messages: Iterator[_Message], context: grpc.ServicerContext
    ) -> Generator[_Message]:
        """The messages of a call, noting when each came; over when it is closed."""
        watched = _Watched(context.peer(), self._idle_s, self._now())
        with self._lock:
            self._calls[context] = watched
        try:
            for message in messages:
                watched.last_s = self._now()
                yield message
        finally:
            with self._lock:
                self._calls.pop(context, None)

    def end(self) -> None:
        """Cancel the calls on which nothing came for too long: each holds a thread."""
        now_s = self._now()
        with self._lock:
            calls = list(self._calls.items())
        for context, watched in calls:
            if watched.is_silent(now_s):
                _log.warning("silent call ended", peer=context.peer(), idle_s=self._idle_s)
                context.cancel()
