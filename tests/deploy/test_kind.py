"""What `make kind-test` asks of kind and kubectl, played by stubs: no cluster runs here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.deploy.manifests import KIND

STUB = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
    *"$FAILS"*) exit 1 ;;
    *"$HANGS"*) exec sleep 60 ;;
    "get clusters") echo "$THERE" ;;
    *"logs job/migrate") echo '{"verified": true}' ;;
esac
"""
CREATE, DELETE = "kind create cluster", "kind delete cluster --name pageferry"


class Played:
    """The script in a tree of its own, with a stub for everything that it calls."""

    def __init__(self, tree: Path) -> None:
        self._calls = tree / "calls"
        self._calls.touch()
        self._script = tree / "deploy" / "kind" / "test"
        self._script.parent.mkdir(parents=True)
        shutil.copy(KIND / "test", self._script)
        for stub in (*(tree / "bin" / name for name in ("kind", "kubectl", "docker")),
                     tree / ".venv" / "bin" / "pageferry"):  # fmt: skip
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text(STUB)
            stub.chmod(0o755)
        self._path = f"{tree / 'bin'}:{os.environ['PATH']}"

    def start(self, **said: str) -> subprocess.Popen[str]:
        stubs = {"FAILS": "nothing", "HANGS": "nothing", "THERE": "other"} | said
        environment = os.environ | stubs | {"CALLS": str(self._calls), "PATH": self._path}
        return subprocess.Popen(
            [self._script], env=environment, text=True, process_group=0,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, **said: str) -> int:
        with self.start(**said) as process:
            process.communicate(timeout=60)
        return process.returncode

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)


def test_a_cluster_for_as_long_as_it_takes(played: Played) -> None:
    assert played.run() == 0
    begun = [call for call in played.calls if call.startswith(CREATE)]
    assert begun == ["kind create cluster --config deploy/kind/cluster.yaml --wait 3m"]
    assert played.calls[-1] == DELETE
    # kubectl refuses to follow the rollout of a set that is updated on delete.
    assert not [call for call in played.calls if "rollout" in call]


@pytest.mark.parametrize("step", ["load docker-image", "apply", "wait job/migrate"])
def test_what_fails_leaves_no_cluster(played: Played, step: str) -> None:
    assert played.run(FAILS=step) == 1
    assert played.calls[-1] == DELETE


def test_ctrl_c_leaves_no_cluster(played: Played) -> None:
    with played.start(HANGS="wait job/migrate") as process:
        while not any("wait job/migrate" in call for call in played.calls):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert played.calls[-1] == DELETE


def test_a_cluster_of_another_owner_stays(played: Played) -> None:
    assert played.run(THERE="pageferry") == 1
    assert not [call for call in played.calls if call.startswith((CREATE, DELETE))]
