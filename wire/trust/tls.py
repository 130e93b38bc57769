"""Certificates: read from a directory, checked, and read again when they were renewed.

The directory has the layout of a Kubernetes TLS secret: ``tls.crt`` and ``tls.key`` are this
process's certificate (with its chain) and key, ``ca.crt`` the authority whose certificates it
trusts. Both sides of a connection show one (mutual TLS).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import cast

import grpc
import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from paging_core.errors import BadOption
from paging_core.reading import read_bytes

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"

_log = structlog.get_logger("wire.trust.tls")


@dataclass(frozen=True)
class Pem:
    """The three files' content at one moment. Never logged: `key` is secret."""

    certificate: bytes
    key: bytes
    authority: bytes

    def __repr__(self) -> str:
        return "Pem(…)"


class Identity:
    """One directory of certificates.

    Attributes:
        directory: where they lie.
    """

    def __init__(self, directory: Path) -> None:
        """Nothing is read yet."""
        self.directory = directory
        self._lock = Lock()
        self._served: tuple[tuple[int, ...], Pem] | None = None

    @classmethod
    def load(cls, directory: Path) -> Identity:
        """A directory whose files were read and fit together.

        Raises:
            BadOption: one is missing, is no certificate, does not fit its key or has expired.
        """
        identity = cls(directory)
        certificate = x509.load_pem_x509_certificate(identity.read().certificate)
        if certificate.not_valid_after_utc < datetime.now(UTC):
            raise BadOption(
                f"{directory / CERTIFICATE} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; "
                "renew it with pageferry certs --renew"
            )
        return identity

    def read(self) -> Pem:
        """What lies there now.

        Raises:
            BadOption: a file is missing, or they do not fit together.
        """
        files = [self.directory / name for name in (CERTIFICATE, KEY, AUTHORITY)]
        for file in files:
            if not file.is_file():
                raise BadOption(
                    f"{file} is missing: a TLS directory holds {CERTIFICATE}, {KEY} and "
                    f"{AUTHORITY}; pageferry certs makes them"
                )
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(files[0], files[1], password=_no_password)
            context.load_verify_locations(files[2])
            return Pem(*(read_bytes(file) for file in files))
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise BadOption(
                f"{self.directory} holds no usable certificate ({reason}); {CERTIFICATE} and {KEY} "
                "have to belong together, in PEM, the key without a password"
            ) from error

    @property
    def name(self) -> str:
        """The common name of its certificate; empty where it has none.

        Raises:
            BadOption: see `read`.
        """
        subject = x509.load_pem_x509_certificate(self.read().certificate).subject
        names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else ""

    def server_name(self) -> str:
        """A name that its certificate is valid for.

        Raises:
            BadOption: see `read`.
        """
        certificate = x509.load_pem_x509_certificate(self.read().certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return next(iter(names.value.get_values_for_type(x509.DNSName)), "localhost")

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a connection; read anew for each.

        Raises:
            BadOption: see `read`.
        """
        pem = self.read()
        return grpc.ssl_channel_credentials(pem.authority, pem.key, pem.certificate)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server: clients must show a certificate, and files are read again when renewed.

        Raises:
            BadOption: see `read`.
        """
        self._served = (self._stamp(), self.read())
        first = _configuration(self._served[1])
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._renewed)
        return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=True)

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked before every handshake: what to serve from now on, None for no change."""
        with self._lock:
            assert self._served is not None  # noqa: S101 - a server asks, so it was served
            try:
                stamp = self._stamp()
                if stamp == self._served[0]:
                    return None
                pem = self.read()
            except (BadOption, OSError) as error:
                # In the middle of a renewal, say: the old ones hold until the new ones fit.
                _log.warning("certificates not renewed", reason=str(error))
                return None
            self._served = (stamp, pem)
            _log.info("certificates renewed", directory=str(self.directory))
            return _configuration(pem)

    def _stamp(self) -> tuple[int, ...]:
        stats = [(self.directory / name).stat() for name in (CERTIFICATE, KEY, AUTHORITY)]
        return tuple(value for stat in stats for value in (stat.st_mtime_ns, stat.st_ino))


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.certificate)], root_certificates=pem.authority
    )


def _no_password() -> str:
    raise ValueError("its key is locked with a password")
