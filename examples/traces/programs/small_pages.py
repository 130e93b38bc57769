"""Runs a command without transparent huge pages, as in `small_pages.py qemu-system-x86_64 …`."""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_THP_DISABLE = 41


def main() -> None:
    """Forbid them, for this process and what it becomes."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    main()
