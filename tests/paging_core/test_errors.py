"""The error tree: each leaf is one gRPC status, and the drawing of the tree is the tree."""

from __future__ import annotations

import grpc
import pytest

from paging_core import errors
from paging_core.errors import PageferryError, VerificationFailed

STATUS_NAMES = {code.name for code in grpc.StatusCode}


def subclasses(root: type[PageferryError]) -> list[type[PageferryError]]:
    found = []
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found += [child, *subclasses(child)]
    return found


LEAVES = [error for error in subclasses(PageferryError) if not error.__subclasses__()]


def drawn_tree() -> dict[str, str]:
    """Parent by child, read off the drawing in the module's docstring."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawing = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        if not drawing.startswith("    ") or not drawing.strip():
            continue
        depth = (len(drawing) - len(drawing.lstrip()) - 4) // 4
        name = drawing.split()[0]
        if depth:
            parents[name] = path[depth - 1]
        path[depth:] = [name]
    return parents


def test_the_drawing_in_the_docstring_is_the_tree() -> None:
    actual = {error.__name__: error.__bases__[0].__name__ for error in subclasses(PageferryError)}
    assert drawn_tree() == actual


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_each_leaf_is_one_grpc_status(leaf: type[PageferryError]) -> None:
    assert leaf.grpc_status in STATUS_NAMES - {"OK", "UNKNOWN"}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_an_error_is_its_text(leaf: type[PageferryError]) -> None:
    assert str(leaf("what was wrong; what to do")) == "what was wrong; what to do"


def test_a_failed_verification_names_the_frames() -> None:
    assert VerificationFailed("2 frames differ", (3, 9)).gfns == (3, 9)
    assert VerificationFailed("the roots differ").gfns == ()
