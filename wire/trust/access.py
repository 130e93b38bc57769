"""Who may call what: the names and roles that certificates carry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import grpc

from paging_core.errors import PermissionDenied


class Role(StrEnum):
    """What a certificate is for: its subject's organisational units (OU)."""

    OPERATOR = "operator"
    """May control guests and migrations."""
    VIEWER = "viewer"
    """May look at them."""
    SOURCE = "source"
    """A host that brings guests."""
    DESTINATION = "destination"
    """A host that takes guests in."""


@dataclass(frozen=True)
class Caller:
    """The other end of a connection.

    Attributes:
        name: common name (CN) of the certificate; empty on a plain connection of this machine.
        roles: its organisational units.
    """

    name: str
    roles: frozenset[str]


NOBODY = Caller("", frozenset())


def caller_of(context: grpc.ServicerContext) -> Caller:
    """Who calls; `NOBODY` over plain text."""
    pem = context.auth_context().get("x509_pem_cert")
    return _parsed(bytes(pem[0])) if pem else NOBODY


@lru_cache(maxsize=256)
def _parsed(pem: bytes) -> Caller:
    from cryptography import x509  # noqa: PLC0415 - plain connections need none of it
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    subject = x509.load_pem_x509_certificate(pem).subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return Caller(names[0] if names else "", frozenset(str(each.value) for each in units))


def check_digests(caller: Caller) -> None:
    """Refuse digests to viewers: they read all of a guest's memory, and it stands still meanwhile.

    Raises:
        PermissionDenied: it is no operator; on plain connections all is allowed.
    """
    if caller is not NOBODY and Role.OPERATOR not in caller.roles:
        raise PermissionDenied(
            f"digests need a certificate with the role {Role.OPERATOR}, that of {caller.name!r} "
            "may look on; ask without with_digest"
        )


class Access:
    """The rules of one service. On plain connections, which stay on a machine, all is allowed."""

    def __init__(
        self,
        rules: Mapping[str, Collection[Role]],
        *,
        otherwise: Collection[Role],
        sources: Collection[str] = (),
    ) -> None:
        """Set the rules.

        Args:
            rules: roles that may call a method, by its name alone (``Commit``).
            otherwise: roles that may call any other method.
            sources: names of the certificates that may use the role of a source.
        """
        self._rules = rules
        self._otherwise = otherwise
        self._sources = sources

    def check(self, method: str, caller: Caller) -> None:
        """Refuse a caller that may not call the method.

        Args:
            method: full name, ``/package.Service/Method``.
            caller: see `caller_of`.

        Raises:
            PermissionDenied: naming the certificate and what it lacks.
        """
        if caller is NOBODY:
            return
        name = method.rpartition("/")[2]
        allowed = self._rules.get(name, self._otherwise)
        roles = caller.roles.intersection(allowed)
        if not roles:
            needed = " or ".join(sorted(allowed))
            has = ", ".join(sorted(caller.roles)) or "none"
            raise PermissionDenied(
                f"{name} needs a certificate with the role {needed}; that of {caller.name!r} has "
                f"{has}; pageferry certs makes one"
            )
        if roles == {Role.SOURCE} and caller.name not in self._sources:
            raise PermissionDenied(
                f"{caller.name!r} may not bring guests to this host, which takes them from "
                f"{', '.join(sorted(self._sources)) or 'nobody'}; add it to the host's --sources"
            )
