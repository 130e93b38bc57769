"""A private certificate authority for a lab, and certificates for its hosts and people."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pageferry.holders import LOOPBACK, Holder, holder_in, is_ip
from paging_core.errors import BadOption
from paging_core.reading import read_bytes
from wire.trust.tls import AUTHORITY, CERTIFICATE, KEY

CA_KEY = "ca.key"
_CA_DAYS = 3650
_BACKDATED = timedelta(hours=1)  # clocks of a lab differ


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
        before = holder_in(folder)
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
    missing = set(asked.addresses) - {there.name, *there.addresses, *LOOPBACK}
    if there.role is not asked.role or missing:
        wants = f"name {', '.join(sorted(missing))}" if missing else f"have the role {asked.role}"
        raise BadOption(f"the certificate in {folder} does not {wants}; make it anew with --renew")


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
        certificate = x509.load_pem_x509_certificate(read_bytes(folder / AUTHORITY))
        key = serialization.load_pem_private_key(read_bytes(folder / CA_KEY), None)
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


def _reached_as(holder: Holder) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for address in dict.fromkeys((holder.name, *holder.addresses, *LOOPBACK)):
        if is_ip(address):
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
