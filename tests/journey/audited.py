"""``python -m tests.journey.audited serve …``: a destination that notes what its process does anew.

From the moment a guest was taken over until the next one is prepared, every file that is opened,
every module that is imported and every piece of code that is compiled is a line in the file that
`AUDIT_NOTES` names.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

from numba.core import event

import dest_host.cli
from dest_host.receiver import Receiver

WATCHED = {"open", "import", "compile", "exec", "ctypes.dlopen"}

_notes = os.open(os.environ["AUDIT_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_armed = False


def _note(text: str) -> None:
    os.write(_notes, f"{text[:200]!r}\n".encode())


def _hear(name: str, arguments: tuple[Any, ...]) -> None:
    if _armed and name in WATCHED:
        _note(f"{name} {arguments}")


class _Compiling(event.Listener):
    def on_start(self, event: Any) -> None:
        if _armed:
            _note(f"numba {event}")

    def on_end(self, event: Any) -> None:
        """Said at its start."""


def _arming(method: Any, *, before: bool, after: bool) -> Any:
    @functools.wraps(method)
    def wrapped(*arguments: Any, **more: Any) -> Any:
        global _armed  # noqa: PLW0603 - an audit hook cannot be taken away
        _armed = before
        answer = method(*arguments, **more)
        _armed = after
        return answer

    return wrapped


if __name__ == "__main__":
    sys.addaudithook(_hear)
    event.register("numba:compile", _Compiling())  # type: ignore[no-untyped-call]
    Receiver.prepare = _arming(Receiver.prepare, before=False, after=False)  # type: ignore[method-assign]
    Receiver.commit = _arming(Receiver.commit, before=False, after=True)  # type: ignore[method-assign]
    dest_host.cli.main()
