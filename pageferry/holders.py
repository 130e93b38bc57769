"""Holders of certificates: hosts and people, as named on the command line or found in folders."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from paging_core.errors import BadOption
from paging_core.reading import read_bytes
from wire.names import is_name
from wire.trust.access import Role
from wire.trust.tls import CERTIFICATE

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Under which every host can be reached."""
_NAME_CHARS = 64  # of a common name, RFC 5280


@dataclass(frozen=True)
class Holder:
    """Whom a certificate is for.

    Attributes:
        name: common name, and the folder's.
        role: what it may do.
        addresses: further names and addresses under which it is reached.
    """

    name: str
    role: Role
    addresses: tuple[str, ...] = ()

    @property
    def is_host(self) -> bool:
        """Whether others connect to it. A user's certificate must not pass for a host's."""
        return self.role in {Role.SOURCE, Role.DESTINATION}

    @classmethod
    def parse(cls, role: Role, text: str) -> Holder:
        """From ``NAME`` or ``NAME,ADDRESS,…``.

        Raises:
            BadOption: no name that can be a folder, or no address that can be in a certificate.
        """
        name, *addresses = (part.strip() for part in text.split(","))
        if not is_name(name) or len(name) > _NAME_CHARS or name == "ca":
            raise BadOption(
                f"{text!r} names no certificate; write NAME or NAME,ADDRESS like rack1,10.0.0.7"
            )
        for address in filter(None, addresses):
            if not is_name(address) and not is_ip(address):
                raise BadOption(f"{address!r} is neither the name of a host nor an IP address")
        return cls(name, role, tuple(filter(None, addresses)))

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Holder:
        """Whom a certificate was made for.

        Raises:
            BadOption: none of ours.
        """
        subject = certificate.subject
        names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        try:
            name, role = str(names[0].value), Role(str(units[0].value))
        except (IndexError, ValueError) as error:
            raise BadOption(f"pageferry certs did not make {subject.rfc4514_string()}") from error
        known = {name, *LOOPBACK}
        return cls(name, role, tuple(each for each in _addresses(certificate) if each not in known))


def holders_in(directory: Path) -> list[Holder]:
    """Whom there are certificates for, by name; nobody where there is no such directory.

    Raises:
        BadOption: a certificate that cannot be read.
    """
    if not directory.is_dir():
        return []
    folders = sorted(path for path in directory.iterdir() if path.name != "ca")
    return [holder for folder in folders if (holder := holder_in(folder)) is not None]


def holder_in(folder: Path) -> Holder | None:
    """Whose certificate a folder has; None where it has none.

    Raises:
        BadOption: one that cannot be read.
    """
    file = folder / CERTIFICATE
    if not file.exists():
        return None
    try:
        return Holder.of(x509.load_pem_x509_certificate(read_bytes(file)))
    except ValueError as error:
        raise BadOption(f"{file} is no certificate ({error}); remove its folder") from error


def is_ip(address: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _addresses(certificate: x509.Certificate) -> list[str]:
    """Under which its holder is reached; a user has none."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]
