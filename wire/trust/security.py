"""Who may talk in plain text, and who needs a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from paging_core.errors import BadOption, PageferryError
from wire.address import UNIX, stays_here

if TYPE_CHECKING:
    from wire.trust.tls import Identity

_WAY_OUT = "give --tls DIR (pageferry certs makes one), or --insecure on a network that you trust"


@dataclass(frozen=True)
class Security:
    """What a process shows to others, and what it accepts of them.

    Attributes:
        identity: its certificate and key, and the authority it trusts; None has none.
        insecure: plain text is allowed beyond this machine.
    """

    identity: Identity | None = None
    insecure: bool = False

    @classmethod
    def of(cls, tls: Path | None, *, insecure: bool) -> Security:
        """From the options ``--tls`` and ``--insecure``.

        Raises:
            BadOption: both are given, or the directory holds no usable certificate.
        """
        if tls is None:
            return cls(None, insecure)
        if insecure:
            raise BadOption("--tls encrypts and --insecure does not; drop one of them")
        from wire.trust.tls import Identity  # noqa: PLC0415 - its libraries are slow to import

        return cls(Identity.load(tls))

    @property
    def name(self) -> str:
        """On its certificate; empty without one.

        Raises:
            BadOption: a certificate that cannot be read.
        """
        return "" if self.identity is None else self.identity.name

    def channel_credentials(self, address: str) -> grpc.ChannelCredentials | None:
        """For a connection to `address`; None is plain text.

        A Unix socket is plain text always: the file's permissions decide who may use it.

        Raises:
            BadOption: it is another machine, and plain text was not allowed.
        """
        if address.startswith(UNIX):
            return None
        if self.identity is not None:
            return self.identity.channel_credentials()
        if not self.insecure and not stays_here(address):
            raise BadOption(
                f"{address} is not on this machine and would be spoken to in plain text; {_WAY_OUT}"
            )
        return None

    def server_credentials(self, address: str) -> grpc.ServerCredentials | None:
        """To listen on `address`; None is plain text.

        Raises:
            BadOption: other machines can reach it, and plain text was not allowed.
        """
        if address.startswith(UNIX):
            return None
        if self.identity is not None:
            return self.identity.server_credentials()
        if not self.insecure and not stays_here(address):
            raise BadOption(
                f"other machines can reach {address}, and this host would use plain text "
                f"there; {_WAY_OUT}, or listen on 127.0.0.1"
            )
        return None

    def explain(self, address: str) -> PageferryError | None:
        """Why the host at `address` did not answer, if it was for our certificates.

        gRPC reports any failed handshake as an unavailable host; users need the reason.
        """
        if address.startswith(UNIX):
            return None
        from wire.trust.handshake import explain  # noqa: PLC0415 - needed after a failure alone

        return explain(address, self.identity)


THIS_MACHINE = Security()
"""No certificate: plain text within this machine, nothing beyond it."""
