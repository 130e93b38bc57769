"""Records in compiled code have types, and no kernel does without; typed_records.py is for mypy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import paging_core
from paging_core.record_views import modules

PACKAGE = Path(paging_core.__file__).parent
KERNELS = sorted([*PACKAGE.glob("kernels/*.py"), *PACKAGE.glob("traces/kernels/*.py")])


def test_views_are_what_the_dtypes_say() -> None:
    for path, text in modules().items():
        assert path.read_text() == text, f"{path.name}: run make views"


def kernels_of(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and any(
            isinstance(one, ast.Name) and one.id == "kernel" for one in node.decorator_list
        ):
            yield node


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_no_kernel_takes_what_no_checker_can_follow(path: Path) -> None:
    for kernel in kernels_of(path):
        for argument in kernel.args.args:
            assert argument.annotation is not None
            names = {n.id for n in ast.walk(argument.annotation) if isinstance(n, ast.Name)}
            assert not names & {"Any", "Records"}, f"{kernel.name}({argument.arg})"
