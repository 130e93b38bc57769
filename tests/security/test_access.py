"""Whose certificate may call what, for every call of the contract; worked out by hand."""

from __future__ import annotations

import pytest

from dest_host import service as destination
from pageferry.v1 import destination_pb2, source_pb2
from paging_core.errors import PermissionDenied
from source_host import service as source
from wire.trust.access import NOBODY, Access, Caller, Role, check_digests

MAY = {
    "SourceHost": {
        "CreateGuest": "operator",
        "StartGuest": "operator",
        "PauseGuest": "operator",
        "StepGuest": "operator",
        "GetGuest": "operator viewer",
        "ListGuests": "operator viewer",
        "DeleteGuest": "operator",
        "Migrate": "operator",
        "GetMigration": "operator viewer",
        "ListMigrations": "operator viewer",
        "WatchMigration": "operator viewer",
        "CancelMigration": "operator",
        "ResolveMigration": "operator",
    },
    "DestinationHost": {
        "Prepare": "source",
        "Transfer": "source",
        "CompareDigests": "source",
        "Commit": "source",
        "Abort": "source",
        "GetIncoming": "source",
        "GetGuest": "operator viewer",
        "ListGuests": "operator viewer",
        "StartGuest": "operator",
        "PauseGuest": "operator",
        "StepGuest": "operator",
        "DeleteGuest": "operator",
    },
}
DIGESTS = "operator"
"""Who may ask for those of a guest, beside how it stands."""
ACCESS = {
    "SourceHost": Access(source.RULES, otherwise=source.CONTROL),
    "DestinationHost": Access(
        destination.RULES, otherwise=destination.CONTROL, sources={"somebody"}
    ),
}


def may(service: str, method: str, caller: Caller) -> bool:
    try:
        ACCESS[service].check(f"/pageferry.v1.{service}/{method}", caller)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("service", MAY)
def test_every_call_and_every_role(service: str) -> None:
    file = source_pb2 if service == "SourceHost" else destination_pb2
    methods = [method.name for method in file.DESCRIPTOR.services_by_name[service].methods]
    assert sorted(methods) == sorted(MAY[service])
    for method in methods:
        who = {
            role.value
            for role in Role
            if may(service, method, Caller("somebody", frozenset({role.value})))
        }
        assert who == set(MAY[service][method].split()), method


def test_digests_are_for_those_who_may_hold_a_guest() -> None:
    for role in Role:
        caller = Caller("somebody", frozenset({role.value}))
        if role.value in DIGESTS.split():
            check_digests(caller)
        else:
            with pytest.raises(PermissionDenied, match="role operator"):
                check_digests(caller)
    check_digests(Caller("both", frozenset({"viewer", "operator"})))
    check_digests(NOBODY)
    with pytest.raises(PermissionDenied):
        check_digests(Caller("", frozenset()))


def test_a_certificate_without_a_role_may_nothing() -> None:
    for roles in (frozenset[str](), frozenset({"admin", "OPERATOR"})):
        for service, methods in MAY.items():
            assert not any(may(service, method, Caller("somebody", roles)) for method in methods)


def test_a_source_has_to_be_on_the_list() -> None:
    roles = frozenset({"source"})
    assert may("DestinationHost", "Prepare", Caller("somebody", roles))
    for name in ("somebody2", "some", "", "Somebody"):
        assert not may("DestinationHost", "Prepare", Caller(name, roles)), name


def test_the_list_is_about_sources_alone() -> None:
    both = Caller("elsewhere", frozenset({"source", "operator"}))
    assert may("DestinationHost", "DeleteGuest", both)
    assert not may("DestinationHost", "Commit", both)


def test_without_certificates_there_are_no_rules() -> None:
    assert may("DestinationHost", "Commit", NOBODY)
    # But somebody who has a certificate without a name is not nobody.
    assert not may("DestinationHost", "Commit", Caller("", frozenset()))
