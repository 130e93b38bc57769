"""Certificates as a host reads them: expired ones are no use, renewed ones are noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from pageferry.certs import make
from paging_core.errors import BadOption
from tests.security.authority import SOURCE, certified, expire
from wire.trust.security import Security
from wire.trust.tls import Identity


def test_a_host_does_not_start_with_an_expired_certificate(tmp_path: Path) -> None:
    folder = expire(certified(tmp_path), SOURCE)
    with pytest.raises(BadOption, match=r"tls\.crt expired on .*pageferry certs --renew"):
        Security.of(folder, insecure=False)


class Served:
    """What gRPC is given to serve: at first, and when it asks before a handshake."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Callable[[], Any] = lambda: None
        monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", self._dynamic)
        monkeypatch.setattr(grpc, "ssl_server_certificate_configuration", self._configured)

    def _dynamic(self, _first: object, fetch: Callable[[], Any], **_more: object) -> None:
        self.asked = fetch

    def _configured(self, pairs: list[tuple[bytes, bytes]], root_certificates: bytes) -> Any:
        ((key, certificate),) = pairs
        return key, certificate, root_certificates


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


def files(folder: Path) -> tuple[bytes, ...]:
    return tuple((folder / name).read_bytes() for name in ("tls.key", "tls.crt", "ca.crt"))


def test_each_file_that_is_renewed_is_noticed(tmp_path: Path, served: Served) -> None:
    """The authority's alone, too: whom it trusts changes then."""
    folder = certified(tmp_path / "one") / "source"
    other = certified(tmp_path / "other") / "source"
    Identity.load(folder).server_credentials()
    assert served.asked() is None
    for renewed in (("ca.crt",), ("tls.key", "tls.crt")):
        for name in renewed:
            (other / name).replace(folder / name)
        assert served.asked() == files(folder)
        assert served.asked() is None


def test_no_key_is_logged_when_certificates_are_renewed(tmp_path: Path, served: Served) -> None:
    certs = certified(tmp_path)
    identity = Identity.load(certs / "source")
    identity.server_credentials()
    make(certs, [SOURCE], 30, renew=True)
    with capture_logs() as logs:
        served.asked()
    assert [log["event"] for log in logs] == ["certificates renewed"]
    secret = (certs / "source" / "tls.key").read_text().splitlines()[1]
    assert secret not in str(logs) + repr(identity.read())
