"""`pageferry guests`: what a host that runs already holds, and what to do with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pageferry.cli.reach import check_list, each_of, reaches_a_host, show_list, state_name

_DID = {"start": "started", "pause": "paused", "delete": "deleted"}


@click.command(
    epilog="""\b
Examples:
  pageferry guests rack2:50052 --tls certs/operator
  pageferry guests rack2:50052 --tls certs/operator --json guests.json
  pageferry guests rack2:50052 pause guest-1f2e3d4c --tls certs/operator
  pageferry guests 127.0.0.1:50051 delete web db
""",
)
@reaches_a_host
@click.argument("action", type=click.Choice(list(_DID)), required=False)
@click.argument("names", nargs=-1, metavar="[GUEST]…")
@click.pass_context
def guests(
    ctx: click.Context,
    /,
    address: str,
    action: str | None,
    names: tuple[str, ...],
    tls: Path | None,
    *,
    insecure: bool,
    json_target: str | None,
) -> None:
    """List the guests of the host at ADDRESS, source or destination; or act on some of them.

    start lets a guest run, at once and in real time, pause stops it, delete frees its memory: it
    is gone. One that is being migrated
    or in doubt stays as it is. A guest that moved away is listed at its source until it is
    deleted there.
    """
    from pageferry.guest_client import Action, GuestClient
    from wire.trust.security import Security

    if action is not None and not names:
        raise click.UsageError(f"name the guests to {action}", ctx)
    check_list(json_target, action, ctx)
    with GuestClient(address, Security.of(tls, insecure=insecure)) as client:
        if action is not None:
            to_do = Action(action)
            ctx.exit(each_of(lambda name: client.act(to_do, name), names, _DID[action]))
        _show([_row(status) for status in client.guests()], json_target)


def _row(status: Any) -> dict[str, Any]:
    from pageferry.v1 import common_pb2

    return {
        "guest": status.guest_id,
        "state": state_name(common_pb2.GuestState, "GUEST_STATE_", status.state),
        "memory_bytes": status.memory_bytes,
        "time_ns": status.time_ns,
        "accesses": status.accesses,
        "message": status.message,
    }


def _show(rows: list[dict[str, Any]], json_target: str | None) -> None:
    from pageferry.tables import count
    from paging_core.units import format_bytes, format_ns

    reading = {"memory_bytes": format_bytes, "time_ns": format_ns, "accesses": count}
    show_list("guests", rows, reading, json_target)
