"""One command to a QEMU: qmp.py SOCKET COMMAND."""

from __future__ import annotations

import json
import socket
import sys


def main() -> None:
    """Say it, and wait for the answer."""
    with socket.socket(socket.AF_UNIX) as qemu:
        qemu.connect(sys.argv[1])
        lines = qemu.makefile("rw")
        lines.readline()
        for command in ("qmp_capabilities", sys.argv[2]):
            lines.write(json.dumps({"execute": command}) + "\n")
            lines.flush()
            lines.readline()


if __name__ == "__main__":
    main()
