"""What a host writes to its log when something goes wrong that nobody expected."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

PROGRAM = """
import structlog
from wire.hosting.logs import configure_logs

def fail():
    page = "a page of " + "somebody".upper()
    raise ZeroDivisionError("by zero")

configure_logs("info", "test")
try:
    fail()
except ZeroDivisionError:
    structlog.get_logger("guard").exception("failed")
"""


def logged_to_a_file() -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, check=True, text=True, timeout=60
    ).stderr


def logged_to_a_terminal() -> str:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    told = b""
    with suppress(OSError):  # how Linux says that nobody writes any more
        while more := os.read(ours, 4096):
            told += more
    os.close(ours)
    return told.decode()


@pytest.mark.parametrize("logged", [logged_to_a_file, logged_to_a_terminal])
def test_an_exception_tells_where_and_not_the_values_of_variables(
    logged: Callable[[], str],
) -> None:
    told = logged()
    assert "ZeroDivisionError" in told
    assert "fail" in told
    assert "SOMEBODY" not in told
