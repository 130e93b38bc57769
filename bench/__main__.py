"""``python -m bench [NAME …]``: run the benchmarks of this folder, or the named ones."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench


def names() -> list[str]:
    """Every benchmark; a module whose name begins with an underscore is a part of others."""
    found = (module.name for module in pkgutil.iter_modules(bench.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def main() -> None:
    wanted = sys.argv[1:] or names()
    unknown = set(wanted) - set(names())
    if unknown:
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(names())}")
    for name in wanted:
        importlib.import_module(f"bench.{name}").main([])
        print(flush=True)


if __name__ == "__main__":
    main()
