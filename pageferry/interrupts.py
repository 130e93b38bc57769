"""Ctrl-C: the first one asks for a cancel, the second one ends the process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from wire.signals import stop_signals


class Interrupted(KeyboardInterrupt):
    """This process was asked to stop.

    Attributes:
        exit_code: what the process should end with, 128 plus the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class Interrupts:
    """Turns SIGINT and SIGTERM into `Interrupted`, at a moment that suits.

    A SIGINT that is ignored stays so, see `wire.signals`.

    A second signal is never held back. Works in the main thread only, as signals do.

    Attributes:
        raised: what was raised last; a library that it passed through may have made another
            error of it.
    """

    def __init__(self) -> None:
        self.raised: Interrupted | None = None
        self._shielded = False
        self._held: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for signum in stop_signals():
            self._previous[signum] = signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _on_signal(self, signum: int, _: FrameType | None) -> None:
        if self._shielded and self._held is None:
            self._held = signum
            return
        raise self._interrupted(signum)

    def _interrupted(self, signum: int) -> Interrupted:
        self.raised = Interrupted(signum)
        return self.raised

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold a signal back until the end of the block: it must not be left half done."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
        if self._held is not None:
            signum, self._held = self._held, None
            raise self._interrupted(signum)
