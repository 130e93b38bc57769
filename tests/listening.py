"""A listening socket of a test, and the connections it took."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Listening:
    """Listens on a free port of 127.0.0.1; leaving it as a context manager closes everything.

    Attributes:
        address: as gRPC wants it.
    """

    def __init__(self, receive_buffer_bytes: int | None = None) -> None:
        """Listen.

        Args:
            receive_buffer_bytes: of the connections that are taken; None leaves the default.
        """
        self._listener = socket.socket()
        if receive_buffer_bytes is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def open_sockets(self) -> Iterable[socket.socket]:
        """Sockets to close at the end, beside the one that listens."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        for one in (self._listener, *self.open_sockets()):
            one.close()
