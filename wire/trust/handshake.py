"""Why a TLS connection failed, in a sentence. gRPC only says that nobody answers."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509

from paging_core.errors import PageferryError, Unauthenticated
from wire.address import host_of
from wire.trust.tls import AUTHORITY, CERTIFICATE, KEY, Identity

_TIMEOUT_S = 3.0
_BETWEEN_S = 0.5
_RENEW = "make a new one with pageferry certs --renew"

_REFUSALS: Mapping[str, str] = {
    "CERTIFICATE_REQUIRED": "it wants a certificate and got none",
    "CERTIFICATE_EXPIRED": f"the certificate shown to it has expired; {_RENEW}",
    "UNKNOWN_CA": "the certificate shown to it is of an authority that it does not trust; "
    "both hosts need certificates of one authority",
    "CERTIFICATE_REVOKED": "the certificate shown to it was revoked",
}
"""By what the alert of a server is called at its end."""


def explain(address: str, identity: Identity | None) -> PageferryError | None:
    """Try the handshake once more with a library that tells what is wrong.

    Args:
        address: ``host:port`` of a host that did not answer over gRPC.
        identity: what we show; None is a client without a certificate.

    Returns:
        An error that says which certificate is wrong and why; None when it is not for them.
    """
    # A host that is just dying closes connections as silently as one that refuses certificates:
    # only what comes out twice counts.
    if _try(address, identity) is None:
        return None
    time.sleep(_BETWEEN_S)
    said = _try(address, identity)
    return Unauthenticated(f"{address} and this process do not agree: {said}") if said else None


def _try(address: str, identity: Identity | None) -> str | None:
    host, port = host_of(address), int(address.rpartition(":")[2])
    try:
        with socket.create_connection((host, port), _TIMEOUT_S) as plain:
            return _attempt(plain, host, identity)
    except OSError:
        return None


def _attempt(plain: socket.socket, name: str, identity: Identity | None) -> str | None:
    try:
        secure = _context(identity).wrap_socket(plain, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        return (
            f"its certificate is not trusted here ({error.verify_message.rstrip('.')}); it has to "
            f"be of the authority in {AUTHORITY} and name {name}"
        )
    except ssl.SSLEOFError:
        # Closed before it showed a certificate: nobody serves there, or not yet. A forwarded port
        # (of a container, say) takes connections all the same.
        return None
    except ssl.SSLError as error:
        return _refusal(error.reason or "", identity)
    with secure:
        return _judged(secure, identity)


def _judged(secure: ssl.SSLSocket, identity: Identity | None) -> str | None:
    """What the server thinks of our certificate, now that we trust its own.

    A server of TLS 1.3 judges after our side of the handshake: one that is content begins to
    speak HTTP/2, one that is not closes, gRPC's silently.
    """
    secure.settimeout(_TIMEOUT_S)
    try:
        content = bool(secure.recv(1))
    except ssl.SSLEOFError:
        content = False
    except ssl.SSLError as error:
        return _refusal(error.reason or "", identity)
    except TimeoutError:
        content = True
    except ConnectionError:
        content = False
    if identity is None:
        return _no_identity()
    return None if content else _own_fault(identity)


def _context(identity: Identity | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if identity is None:
        # Only to find out whether it speaks TLS at all: nothing is sent that could be read.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(identity.directory / AUTHORITY)
        context.load_cert_chain(identity.directory / CERTIFICATE, identity.directory / KEY)
    return context


def _refusal(reason: str, identity: Identity | None) -> str | None:
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
        return (
            "it speaks plain text and this side TLS; give that host a certificate (--tls), or "
            "drop --tls here"
            if identity
            else None
        )
    if identity is None:
        return _no_identity()
    known = next((text for name, text in _REFUSALS.items() if reason.endswith(name)), None)
    return known or _own_fault(identity) or f"the handshake failed ({reason})"


def _no_identity() -> str:
    return "it wants a certificate and this side showed none; give --tls DIR"


def _own_fault(identity: Identity) -> str:
    """What can be seen to be wrong with our certificate, without the other side's help."""
    pem = identity.read()
    own = x509.load_pem_x509_certificate(pem.certificate)
    now, until, since = datetime.now(UTC), own.not_valid_after_utc, own.not_valid_before_utc
    if until < now:
        return f"the certificate of this side expired on {until:%Y-%m-%d %H:%M}; {_RENEW}"
    if since > now:
        return f"the certificate of this side is valid since {since:%Y-%m-%d %H:%M}; check clocks"
    return "the certificate of this side was refused; both hosts need certificates of one authority"
