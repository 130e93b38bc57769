"""What a host writes to its log when something goes wrong that nobody expected."""

from __future__ import annotations

import json
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


def logged_to_a_file(program: str = PROGRAM) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, check=True, text=True, timeout=60
    ).stderr


def logged_to_a_terminal(program: str = PROGRAM) -> str:
    ours, theirs = pty.openpty()
    told = b""
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs):
        os.close(theirs)
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


HOSTILE = """
import structlog
from wire.hosting.logs import configure_logs

configure_logs("info", "test")
log = structlog.get_logger("guard")
text = "PWNED\\x1b]0;t\\x07\\x9b2J\\u202e\\r\\nall is well " + "A" * 100000
log.info(text, reason=text, names=[text])
try:
    raise ValueError(text)
except ValueError:
    log.exception("failed")
import logging
logging.getLogger("library").warning(text)
"""


@pytest.mark.parametrize("logged", [logged_to_a_file, logged_to_a_terminal])
def test_text_that_steers_a_terminal_is_not_logged(logged: Callable[[str], str]) -> None:
    told = logged(HOSTILE)
    assert told.count("PWNED") >= 5
    assert len(told) < 20_000
    for sequence in ("\x1b]", "\x07", "\x9b", "\u202e"):
        assert sequence not in told
        assert json.dumps(sequence)[1:-1] not in told  # nor what becomes of it when it is shown
    assert not any(line.startswith("all is well") for line in told.splitlines())
