"""A private certificate authority for a lab, and certificates for its hosts and people."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from paging_core.errors import BadOption
from wire.trust.access import Role
from wire.trust.tls import AUTHORITY, CERTIFICATE, KEY

CA_KEY = "ca.key"
_CA_DAYS = 3650
_BACKDATED = timedelta(hours=1)  # clocks of a lab differ
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
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
        """Whether others connect to it. A person's certificate must not pass for a host's."""
        return self.role in {Role.SOURCE, Role.DESTINATION}

    @classmethod
    def parse(cls, role: Role, text: str) -> Holder:
        """From ``NAME`` or ``NAME,ADDRESS,…``.

        Raises:
            BadOption: no name that can be a folder, or no address that can be in a certificate.
        """
        name, *addresses = (part.strip() for part in text.split(","))
        if not _NAME.fullmatch(name) or len(name) > _NAME_CHARS or name == "ca":
            raise BadOption(
                f"{text!r} names no certificate; write NAME or NAME,ADDRESS like rack1,10.0.0.7"
            )
        for address in filter(None, addresses):
            if not _NAME.fullmatch(address) and not _is_ip(address):
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
        known = {name, *_LOOPBACK}
        return cls(name, role, tuple(each for each in _addresses(certificate) if each not in known))


def make(directory: Path, holders: Sequence[Holder], days: int, *, renew: bool) -> list[Path]:
    """Make what is missing: the authority, and a folder for each holder.

    An authority that is there is used again, so that new hosts can join old ones. A certificate
    that is renewed keeps its addresses unless new ones are given.

    Args:
        directory: where the folders go.
        holders: whom to certify.
        days: how long the certificates are valid.
        renew: replace certificates that are there.

    Returns:
        The folders that were written.

    Raises:
        BadOption: the directory cannot be written, its authority cannot be used, two holders
            have one name, or a certificate is there and names other addresses.
    """
    names = [holder.name for holder in holders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadOption(f"two certificates would be called {twice!r}; choose another name")
    try:
        return _make(directory, holders, days, renew=renew)
    except OSError as error:
        raise BadOption(f"cannot write certificates to {directory}: {error.strerror}") from error


def _make(directory: Path, holders: Sequence[Holder], days: int, *, renew: bool) -> list[Path]:
    authority, key = _authority(directory / "ca")
    made = []
    for holder in holders:
        folder = directory / holder.name
        before = _holder_in(folder)
        if before is None or renew:
            kept = before.addresses if before else ()
            _certify(
                folder, replace(holder, addresses=holder.addresses or kept), authority, key, days
            )
            made.append(folder)
        else:
            _check_same(folder, before, holder)
    return made


def _check_same(folder: Path, there: Holder, asked: Holder) -> None:
    missing = set(asked.addresses) - {there.name, *there.addresses, *_LOOPBACK}
    if there.role is not asked.role or missing:
        wants = f"name {', '.join(sorted(missing))}" if missing else f"have the role {asked.role}"
        raise BadOption(f"the certificate in {folder} does not {wants}; make it anew with --renew")


def holders_in(directory: Path) -> list[Holder]:
    """Whom there are certificates for, by name; empty where there is no authority.

    Raises:
        BadOption: a certificate that cannot be read.
    """
    if not (directory / "ca" / CA_KEY).exists():
        return []
    folders = sorted(path for path in directory.iterdir() if path.name != "ca")
    return [holder for folder in folders if (holder := _holder_in(folder)) is not None]


def _holder_in(folder: Path) -> Holder | None:
    file = folder / CERTIFICATE
    if not file.exists():
        return None
    try:
        return Holder.of(x509.load_pem_x509_certificate(file.read_bytes()))
    except ValueError as error:
        raise BadOption(f"{file} is no certificate ({error}); remove its folder") from error


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if (folder / CA_KEY).exists():
        return _read_authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pageferry lab")])
    certificate = (
        _builder(name, name, key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certifies=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write_key(folder / CA_KEY, key)
    (folder / AUTHORITY).write_bytes(_pem(certificate))
    return certificate, key


def _read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise BadOption(
            f"the authority in {folder} cannot be used ({error}); restore it, or choose an empty "
            "directory and give every host a new certificate"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadOption(f"{folder / CA_KEY} is no key that pageferry certs made")
    return certificate, key


def _certify(
    folder: Path,
    holder: Holder,
    authority: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    days: int,
) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, holder.name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, holder.role.value),
        ]
    )
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = (
        _builder(subject, authority.subject, own.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certifies=False), critical=True)
        .add_extension(signer, critical=False)
        .add_extension(_purposes(holder), critical=False)
    )
    if holder.is_host:
        builder = builder.add_extension(_reached_as(holder), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    folder.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, the certificate last: a host that reads them again meanwhile
    # sees a key that does not fit, and keeps what it has until both are there.
    _replace(folder / AUTHORITY, _pem(authority))
    _write_key(folder / KEY, own)
    _replace(folder / CERTIFICATE, _pem(certificate))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        key_cert_sign=certifies,
        crl_sign=certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(holder: Holder) -> x509.ExtendedKeyUsage:
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if holder.is_host:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    return x509.ExtendedKeyUsage(purposes)


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _addresses(certificate: x509.Certificate) -> list[str]:
    """Under which its holder is reached; a person has none."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def _reached_as(holder: Holder) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for address in dict.fromkeys((holder.name, *holder.addresses, *_LOOPBACK)):
        if _is_ip(address):
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        else:
            names.append(x509.DNSName(address))
    return x509.SubjectAlternativeName(names)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(path, pem, mode=0o600)


def _replace(path: Path, data: bytes, mode: int = 0o644) -> None:
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    beside.replace(path)
