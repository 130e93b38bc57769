"""Which kinds of guest can be tested on this machine: one line each, why not included.

python -m guests.tested
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from guests.kvm.device import check_machine
from guests.linux.userfaultfd import ALL_FAULTS, SYNCHRONOUS, USER_FAULTS, check_kernel
from paging_core.errors import PageferryError

_CHECKS: dict[str, Callable[[], None]] = {
    "process": lambda: check_kernel(SYNCHRONOUS, USER_FAULTS),
    "kvm": check_machine,
    "kvm, page groups": lambda: check_kernel(SYNCHRONOUS, ALL_FAULTS),
}


def lines() -> list[str]:
    """A line for each kind of guest."""
    return ["model: yes", *(f"{kind}: {_verdict(check)}" for kind, check in _CHECKS.items())]


def _verdict(check: Callable[[], None]) -> str:
    try:
        check()
    except PageferryError as error:
        return f"no ({error})"
    return "yes"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
