"""Generate the Python stubs of the contract: ``python proto/generate.py [--check]``.

Messages and services by grpcio-tools, type stubs by mypy-protobuf, all into
``pageferry/v1``. ``--check`` writes nothing and fails when what is committed differs from
what the proto files say.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "proto"
PACKAGE = Path("pageferry/v1")


def generate(out: Path) -> None:
    """Write every generated file under `out`.

    Raises:
        SystemExit: the compiler refused a proto file (its own message says why).
    """
    scripts = Path(sys.executable).parent
    sources = sorted(path.relative_to(PROTOS) for path in (PROTOS / PACKAGE).glob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *map(str, sources),
        ]
    )
    if status:
        raise SystemExit(status)
    for path in (out / PACKAGE).glob("*_pb2_grpc.py*"):
        if path.name.startswith("common_"):  # it has no service
            path.unlink()


def generated(folder: Path) -> dict[str, bytes]:
    """Generated files in a folder: content by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*_pb2*.py*"))}


def differing(ours: dict[str, bytes], theirs: dict[str, bytes]) -> list[str]:
    """Names of files that are not the same on both sides."""
    return [name for name in sorted(ours | theirs) if ours.get(name) != theirs.get(name)]


def main() -> None:
    """Generate, or check what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the stubs are stale")
    check = parser.parse_args().check
    target = ROOT / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = generated(Path(folder) / PACKAGE)
    stale = differing(fresh, generated(target))
    if check and stale:
        raise SystemExit(f"stale stubs: {', '.join(stale)}; run `make proto` and commit the result")
    for name in stale:
        if name in fresh:
            (target / name).write_bytes(fresh[name])
        else:
            (target / name).unlink()


if __name__ == "__main__":
    main()
