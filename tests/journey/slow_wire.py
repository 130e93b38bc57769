"""A connection between two hosts that passes so many bytes a second on, or none any more."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from tests.listening import Listening

_PIECE_S = 0.02
_BUFFER_BYTES = 8192
"""Of the wire's own sockets: what is in buffers has left the sender and has not arrived."""


class SlowWire(Listening):
    """Forwards TCP connections to a target.

    Attributes:
        address: give it to a source host as the destination.
        carried_bytes: towards the target.
        cut: set it, and nothing crosses any more; connections stay open.
    """

    def __init__(self, target: str, bytes_per_s: float) -> None:
        """Take connections."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._bytes_per_s = bytes_per_s
        super().__init__(receive_buffer_bytes=_BUFFER_BYTES)
        self.carried_bytes = 0
        self.cut = threading.Event()
        self._turn = threading.Lock()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def open_sockets(self) -> list[socket.socket]:
        """Both ends of what is forwarded."""
        return self._sockets

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
                far.connect(self._target)
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._sockets.append(one)
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, came: socket.socket, goes: socket.socket, towards: bool) -> None:
        piece = max(256, int(self._bytes_per_s * _PIECE_S))
        with suppress(OSError):
            while data := came.recv(piece if towards else 65536):
                if self.cut.is_set():
                    continue
                if towards:
                    with self._turn:  # all connections share the wire
                        time.sleep(len(data) / self._bytes_per_s)
                    self.carried_bytes += len(data)
                goes.sendall(data)
        for one in (came, goes):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
