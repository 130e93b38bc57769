"""`--rewrite-scenarios` writes down what the scenarios print now; read the diff first."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-scenarios", action="store_true", help="replace the expected lines by what is"
    )
