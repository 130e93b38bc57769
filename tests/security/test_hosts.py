"""Mutual TLS between real hosts: who gets in, and what the others are told."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
import pytest

from pageferry.certs import make
from pageferry.holders import Holder
from pageferry.source_client import SourceClient
from pageferry.v1 import common_pb2, destination_pb2, destination_pb2_grpc, source_pb2_grpc
from pageferry.v1 import source_pb2 as pb
from paging_core.config import GuestConfig
from paging_core.errors import PageferryError, PermissionDenied, Unauthenticated, WrongHost
from source_host.grpc_transport import GrpcTransport
from source_host.precopy.transport import Offer
from tests.journey.hosts import request, spec
from tests.keyed import KEY
from tests.pageferry.hosts import SMALL, pageferry
from tests.security.authority import SOURCE, certified, expire
from tests.security.conftest import Secured
from tests.security.wiretap import Wiretap
from wire.channel import connect
from wire.hosting.launch import HostProcess
from wire.status import rpc_errors
from wire.trust.access import Role
from wire.trust.security import THIS_MACHINE, Security
from wire.version import contract_message

_names = itertools.count(1)
PAGE = bytes(range(1, 25))
A_PAGE = re.compile(r"(?:\\+x[0-9a-f]{2}){4}|[0-9a-f]{48}")
"""Content of memory as it would be logged; names of traces and digests are shorter."""


@pytest.fixture
def guest(secured: Secured) -> Iterator[str]:
    """A guest that waits at the source."""
    name = f"locked-{next(_names)}"
    with secured.client("operator") as client:
        client.create_guest(spec(name))
        client.start_guest(name)
        yield name
        client.delete_guest(name)


def migrated(client: SourceClient, guest_id: str, destination: str) -> pb.MigrationStatus:
    begun = client.migrate(request(guest_id, destination))
    (*_, last) = client.watch(begun.migration_id)
    return last


def test_a_whole_migration(secured: Secured, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    ended = pageferry(
        "migrate", *SMALL, "--json", str(result),
        "--source", secured.source.ready.address, "--dest", secured.destination.ready.address,
        env={"PAGEFERRY_TLS": str(secured.certs / "operator")},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert '"outcome": "completed"' in result.read_text()


def refused_to(who: Security, secured: Secured) -> PageferryError:
    """What a caller is told that asks the source for a guest."""
    address = secured.source.ready.address
    with SourceClient(address, who) as client, pytest.raises(PageferryError) as caught:
        client.guest("any")
    return caught.value


def test_no_certificate(secured: Secured) -> None:
    error = refused_to(THIS_MACHINE, secured)
    assert isinstance(error, Unauthenticated)
    assert "this side showed none; give --tls" in str(error)


def test_a_certificate_of_another_authority(secured: Secured, tmp_path: Path) -> None:
    other = certified(tmp_path)
    error = refused_to(Security.of(other / "operator", insecure=False), secured)
    assert isinstance(error, Unauthenticated)
    assert "its certificate is not trusted here" in str(error)


def test_a_stolen_authority_file_does_not_help(secured: Secured, tmp_path: Path) -> None:
    other = certified(tmp_path) / "operator"
    (other / "ca.crt").write_bytes((secured.certs / "operator" / "ca.crt").read_bytes())
    error = refused_to(Security.of(other, insecure=False), secured)
    assert isinstance(error, Unauthenticated)
    assert "need certificates of one authority" in str(error)


def test_an_expired_certificate(secured: Secured) -> None:
    late = Holder("late", Role.OPERATOR)
    make(secured.certs, [late], 30, renew=True)
    identity = Security.of(secured.certs / "late", insecure=False)
    expire(secured.certs, late)
    error = refused_to(identity, secured)
    assert isinstance(error, Unauthenticated)
    assert "expired" in str(error)


def test_plain_text_where_the_client_speaks_tls(secured: Secured) -> None:
    with (
        HostProcess("dest_host") as plain,
        SourceClient(plain.ready.address, secured.identity("operator")) as client,
        pytest.raises(Unauthenticated, match="it speaks plain text and this side TLS"),
    ):
        client.guest("any")


def test_no_answer_is_still_reported_as_such(secured: Secured) -> None:
    with (
        SourceClient("127.0.0.1:1", secured.identity("operator")) as client,
        pytest.raises(PageferryError, match="no host answers"),
    ):
        client.guest("any")


def test_a_host_that_dies_in_the_handshake_is_not_taken_for_a_strict_one(
    secured: Secured,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as dying:
        address = f"127.0.0.1:{dying.getsockname()[1]}"

        def hang_up_once() -> None:
            connection, _ = dying.accept()
            dying.close()
            connection.close()

        thread = Thread(target=hang_up_once)
        thread.start()
        assert secured.identity("operator").explain(address) is None
        thread.join()


def test_a_forwarded_port_behind_which_no_host_serves_is_not_taken_for_a_strict_host(
    secured: Secured,
) -> None:
    """As before a container whose host is still starting: every connection is taken and closed."""
    with socket.create_server(("127.0.0.1", 0)) as forwarded:
        address = f"127.0.0.1:{forwarded.getsockname()[1]}"

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    forwarded.accept()[0].close()

        Thread(target=hang_up, daemon=True).start()
        assert secured.identity("operator").explain(address) is None
        with (
            SourceClient(address, secured.identity("operator")) as client,
            pytest.raises(PageferryError, match="no host answers"),
        ):
            client.guest("any")
        forwarded.shutdown(socket.SHUT_RDWR)


def test_a_viewer_looks_and_touches_nothing(secured: Secured, guest: str) -> None:
    with secured.client("viewer") as client:
        assert client.guest(guest).state == common_pb2.GUEST_STATE_RUNNING
        for act in (
            lambda: client.delete_guest(guest),
            lambda: client.create_guest(spec("more")),
            lambda: client.migrate(request(guest, "127.0.0.1:1")),
        ):
            with pytest.raises(PermissionDenied, match="role operator; that of 'viewer'"):
                act()
        assert client.guest(guest).state == common_pb2.GUEST_STATE_RUNNING


def test_a_viewer_holds_no_guest_still(secured: Secured, guest: str) -> None:
    """Digests read all of its memory, and a start meanwhile is refused."""
    asked = common_pb2.GuestRequest(guest_id=guest, with_digest=True)
    stubs = {
        secured.source.ready.address: source_pb2_grpc.SourceHostStub,
        secured.destination.ready.address: destination_pb2_grpc.DestinationHostStub,
    }
    for address, stub in stubs.items():
        with (
            connect(address, secured.identity("viewer")) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            stub(channel).GetGuest(asked, timeout=60)
        assert isinstance(refused.value, grpc.Call)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "digests need a certificate with the role operator" in str(refused.value.details())
    address, identity = secured.source.ready.address, secured.identity("operator")
    with connect(address, identity) as channel:
        held = source_pb2_grpc.SourceHostStub(channel).GetGuest(asked, timeout=60)
    assert held.memory_digest


def test_a_host_controls_no_guests(secured: Secured) -> None:
    with secured.client("rack2") as client, pytest.raises(PermissionDenied, match="has source"):
        client.create_guest(spec("mine"))


def test_a_person_cannot_pose_as_a_host(secured: Secured, guest: str) -> None:
    posing = HostProcess("dest_host", ["--tls", str(secured.certs / "operator")])
    with posing, secured.client("operator") as client:
        ended = migrated(client, guest, posing.ready.address)
        assert ended.error_status == "UNAUTHENTICATED"
        assert "not trusted here (unsuitable certificate purpose)" in ended.error
        assert client.guest(guest).state == common_pb2.GUEST_STATE_RUNNING


def test_nothing_can_be_read_on_the_line(secured: Secured) -> None:
    name = "a-name-to-look-for"
    with HostProcess("source_host") as source, HostProcess("dest_host") as destination:
        heard = overheard(name, SourceClient(source.ready.address), destination)
    assert name.encode() in heard  # or the search below would find nothing for another reason
    heard = overheard(name, secured.client("operator"), secured.destination)
    assert len(heard) > 2**20
    assert name.encode() not in heard


def overheard(name: str, client: SourceClient, destination: HostProcess) -> bytes:
    """What is overheard of a migration on the link."""
    with client, Wiretap(destination.ready.address) as tap:
        client.create_guest(spec(name))
        client.start_guest(name)
        ended = migrated(client, name, tap.address)
        assert ended.verified, ended.error
        return tap.heard


def test_a_source_that_the_destination_does_not_list(secured: Secured) -> None:
    tls = ["--tls", str(secured.certs / "stranger")]
    with (
        HostProcess("source_host", tls) as stranger,
        SourceClient(stranger.ready.address, secured.identity("operator")) as client,
    ):
        client.create_guest(spec("kept"))
        client.start_guest("kept")
        ended = migrated(client, "kept", secured.destination.ready.address)
        assert ended.error_status == "PERMISSION_DENIED"
        assert re.search(r"'stranger' may not bring guests.*--sources", ended.error)
        assert client.guest("kept").state == common_pb2.GUEST_STATE_RUNNING


def test_a_source_without_a_certificate(secured: Secured) -> None:
    with HostProcess("source_host") as plain, SourceClient(plain.ready.address) as client:
        client.create_guest(spec("kept"))
        client.start_guest("kept")
        ended = migrated(client, "kept", secured.destination.ready.address)
        assert ended.error_status == "UNAUTHENTICATED"
        assert "this side showed none" in ended.error
        assert client.guest("kept").state == common_pb2.GUEST_STATE_RUNNING


def test_certificates_are_read_again(tmp_path: Path) -> None:
    certs = certified(tmp_path)
    tls = ["--tls", str(certs / "source")]
    operator = Security.of(certs / "operator", insecure=False)
    with HostProcess("source_host", tls) as host:
        address = host.ready.address

        def asked() -> str:
            with SourceClient(address, operator) as client:
                try:
                    client.guest("any")
                except PageferryError as error:
                    return f"{type(error).__name__}: {error}"
            raise AssertionError

        assert asked().startswith("NotFound")
        expire(certs, SOURCE)
        assert "not trusted here (certificate has expired)" in asked()
        make(certs, [SOURCE], 30, renew=True)
        assert asked().startswith("NotFound")
        # A renewal that was cut off: the key is new, the certificate is not.
        (certs / "source" / "tls.key").write_bytes((certs / "operator" / "tls.key").read_bytes())
        assert asked().startswith("NotFound")


def test_a_source_in_doubt_asks_with_the_certificates_of_today(tmp_path: Path) -> None:
    """A migration is in doubt until the destination answers, longer than certificates may last."""
    certs = certified(tmp_path / "certs")
    tls = ["--tls", str(certs / "destination"), "--sources", "source"]
    with HostProcess("dest_host", tls) as first:
        address = first.ready.address
        transport = GrpcTransport(address, Security.of(certs / "source", insecure=False))
        transport.prepare(Offer("m-1", "vm", GuestConfig(4 << 20, workload="idle"), KEY))
        assert not transport.is_committed()
    renewed = certified(tmp_path / "renewed")
    for holder in ("source", "destination"):
        shutil.copytree(renewed / holder, certs / holder, dirs_exist_ok=True)
    with HostProcess("dest_host", tls, listen=address):  # it can be asked, and answers
        with pytest.raises(WrongHost, match=r"this is host destination\.\w+, .* started again"):
            transport.is_committed()
        with pytest.raises(WrongHost, match="started again"):
            transport.abort("it is not there")
    transport.close()


def offer(migration_id: str, guest_id: str) -> destination_pb2.PrepareRequest:
    return destination_pb2.PrepareRequest(
        version=contract_message(),
        migration_id=migration_id,
        guest=spec(guest_id),
        streams=1,
        proof_key=bytes(32),
    )


def test_a_source_cannot_touch_what_another_one_brings(secured: Secured) -> None:
    address = secured.destination.ready.address
    with (
        connect(address, secured.identity("source")) as one,
        connect(address, secured.identity("rack2")) as other,
    ):
        mine = destination_pb2_grpc.DestinationHostStub(one)
        theirs = destination_pb2_grpc.DestinationHostStub(other)
        mine.Prepare(offer("mine-1", "mine"), timeout=60)
        hello = destination_pb2.TransferHello(migration_id="mine-1")
        for call in (
            lambda: theirs.Abort(destination_pb2.AbortRequest(migration_id="mine-1"), timeout=20),
            lambda: theirs.GetIncoming(
                destination_pb2.IncomingRequest(migration_id="mine-1"), timeout=20
            ),
            lambda: theirs.Commit(destination_pb2.CommitRequest(migration_id="mine-1"), timeout=20),
            lambda: theirs.CompareDigests(
                destination_pb2.CompareDigestsRequest(migration_id="mine-1"), timeout=20
            ),
            lambda: list(
                theirs.Transfer(iter([destination_pb2.TransferMessage(hello=hello)]), timeout=20)
            ),
        ):
            with pytest.raises(PermissionDenied, match="another source"), rpc_errors(address):
                call()
        mine.Abort(destination_pb2.AbortRequest(migration_id="mine-1"), timeout=20)


def test_an_operator_brings_no_pages(secured: Secured) -> None:
    address = secured.destination.ready.address
    with connect(address, secured.identity("operator")) as channel:
        stub = destination_pb2_grpc.DestinationHostStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Prepare(offer("no-1", "no"), timeout=20)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("message", [b"", b"\xff" * (32 << 20)], ids=["none yet", "long"])
def test_who_may_not_call_is_refused_before_a_message_is_read(
    secured: Secured, message: bytes
) -> None:
    """No thread waits for it, and a long one is not decoded: that takes many times its size."""
    over = Event()

    def messages() -> Iterator[bytes]:
        if message:
            yield message
        over.wait(60)

    with connect(secured.destination.ready.address, secured.identity("viewer")) as channel:
        prepare: Any = channel.stream_stream("/pageferry.v1.DestinationHost/Prepare")
        with pytest.raises(grpc.RpcError) as caught:
            list(prepare(messages(), timeout=60))
        over.set()
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_nothing_secret_is_told(secured: Secured, guest: str, logs: tuple[Path, Path]) -> None:
    """Neither in the logs of every detail, nor on the metrics pages."""
    with secured.client("operator") as client:
        ended = migrated(client, guest, secured.destination.ready.address)
        assert ended.state == pb.MIGRATION_STATE_COMPLETED
    told = "".join(log.read_text() for log in logs)
    for host in (secured.source, secured.destination):
        page = urllib.request.urlopen(f"http://{host.ready.metrics}/metrics", timeout=20)
        told += page.read().decode()
    assert "committed" in told
    for key in secured.certs.glob("*/*.key"):
        secret = key.read_text().splitlines()[1]
        assert secret not in told
    for page_as_text in (repr(PAGE), json.dumps(repr(PAGE)), PAGE.hex()):
        assert A_PAGE.search(page_as_text)
    assert not A_PAGE.search(told)
    assert "BEGIN " not in told
