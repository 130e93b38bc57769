"""One target under atheris, in this process, until libFuzzer ends it.

    python -m tests.fuzz.one TARGET [libFuzzer's own arguments]

`tests.fuzz` starts it; nothing else has to.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.catalog import ALL, CORPUS

_FOLLOWED = ("wire", "dest_host", "source_host", "pageferry", "paging_core", "tomllib")
"""Packages whose branches guide it."""
_COMPILED = ("import numba", "from numba", "from paging_core.compiled")
"""Of a module that numba compiles: with the calls that count branches in it, it could not."""
_HERE = CORPUS.parents[2]


def _not_followed() -> list[str]:
    """Modules of ours that stay as they are."""
    sources = {
        path: path.read_text() for package in _FOLLOWED for path in (_HERE / package).rglob("*.py")
    }
    return [
        ".".join(path.relative_to(_HERE).with_suffix("").parts)
        for path, text in sources.items()
        if any(each in text for each in _COMPILED) or path.parent.name in {"v1", "kernels"}
    ]


def main() -> None:
    """Never returns."""
    name = sys.argv[1]
    with atheris.instrument_imports(include=_FOLLOWED, exclude=_not_followed()):
        run = ALL[name].load()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
