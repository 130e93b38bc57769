"""The import contracts in pyproject.toml name every module that they are about."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pageferry

ROOT = Path(__file__).parents[2]
STUBS = "v1"
"""Generated from proto/: what both hosts agree on, under a name that is pageferry's."""


def contracts() -> dict[str, dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {contract["name"]: contract for contract in settings["contracts"]}


def test_no_module_of_pageferry_is_forgotten_below_it() -> None:
    here = Path(pageferry.__file__).parent
    files = {path.stem for path in here.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in here.glob("*/__init__.py")} - {STUBS}
    found = contracts()["Below pageferry nobody knows more of it than the generated stubs"]
    assert set(found["forbidden_modules"]) == {f"pageferry.{name}" for name in files | packages}
