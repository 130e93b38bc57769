"""Plain text stays on this machine without --insecure."""

from __future__ import annotations

import pytest

from paging_core.errors import BadOption, HostUnreachable
from tests.pageferry.hosts import SMALL, pageferry
from wire.address import stays_here
from wire.channel import connect
from wire.hosting.launch import HostProcess
from wire.trust.security import Security

HERE = ("127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/tmp/x")
ELSEWHERE = ("10.0.0.7:1", "0.0.0.0:1", "[::]:1", "[2001:db8::1]:1", "rack1:1", "localhost.lan:1")


def test_what_stays_here() -> None:
    assert all(map(stays_here, HERE))
    assert not any(map(stays_here, ELSEWHERE))


def test_connecting() -> None:
    for address in HERE:
        connect(address).close()
    for address in ELSEWHERE:
        with pytest.raises(BadOption, match=r"plain text; give --tls DIR.*--insecure"):
            connect(address)
        connect(address, Security(insecure=True)).close()


def test_the_command_says_so_before_anything_starts() -> None:
    ended = pageferry("migrate", *SMALL, "--source", "10.0.0.7:1", "--dest", "10.0.0.8:1")
    assert ended.returncode == 2
    assert "10.0.0.7:1 is not on this machine" in ended.stderr


def test_options_that_do_nothing_here() -> None:
    for option in (["--insecure"], ["--tls", "certs"]):
        ended = pageferry("migrate", *SMALL, *option)
        assert ended.returncode == 2
        assert "give --source and --dest" in ended.stderr


@pytest.mark.parametrize("module", ["source_host", "dest_host"])
def test_a_host_for_others_needs_a_certificate_or_insecure(module: str) -> None:
    with pytest.raises(HostUnreachable, match=r"other machines can reach 0\.0\.0\.0:0.*--tls"):
        HostProcess(module, listen="0.0.0.0:0")


def test_insecure_warns(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("insecure") / "log"
    with path.open("wb") as log:
        HostProcess("dest_host", ["--insecure"], listen="0.0.0.0:0", log=log).stop()
    assert '"level": "warning"' in path.read_text()
    assert "anyone who reaches this address controls the host" in path.read_text()
