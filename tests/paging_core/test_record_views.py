"""Records in compiled code have types: a field that no dtype has is found by mypy."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy import api

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


def test_mypy_finds_a_misspelt_field_and_a_wrong_type(tmp_path: Path) -> None:
    probe = tmp_path / "probe.py"
    probe.write_text(
        "from paging_core.kernels.views import CoreView, FrameView, OpView, PageView, TlbView\n"
        "def right(m: CoreView, f: FrameView, p: PageView, t: TlbView, op: OpView) -> int:\n"
        "    return m.vcpu.roots[f.rmap] + p.refs + t.tag + op.kind\n"
        "def misspelt(m: CoreView) -> int:\n"
        "    return m.gruop_framez\n"
        "def nested(m: CoreView) -> None:\n"
        "    m.vcpu.cr4 = 0\n"
        "def wrong(f: FrameView) -> None:\n"
        "    f.rmap = [1]\n"
        "def scalar(m: CoreView) -> int:\n"
        "    return m.vcpu.cr3[0]\n"
    )
    cache = tmp_path / "cache"
    out, _, _ = api.run(["--strict", "--no-error-summary", f"--cache-dir={cache}", str(probe)])
    lines = {int(line.split(":")[1]) for line in out.splitlines() if ": error: " in line}
    assert lines == {5, 7, 9, 11}, out
