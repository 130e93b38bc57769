"""`pageferry certs`: a private authority and certificates for a lab."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Examples:
  pageferry certs certs
  pageferry certs certs --source rack1,10.0.0.7 --destination rack2,10.0.0.8,rack2.lan
  pageferry certs certs --renew
""",
)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME[,ADDR…]",
    help="A source host, and the names and addresses under which it is reached; may be repeated.  "
    "[default: source, in a new directory]",
)
@click.option(
    "--destination",
    "destinations",
    multiple=True,
    metavar="NAME[,ADDR…]",
    help="A destination host, likewise.  [default: destination, likewise]",
)
@click.option(
    "--operator",
    "operators",
    multiple=True,
    metavar="NAME",
    help="A user who controls guests and migrations; may be repeated.  "
    "[default: operator, likewise]",
)
@click.option(
    "--viewer", "viewers", multiple=True, metavar="NAME", help="A user who may only look."
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=90,
    show_default=True,
    help="How long the certificates are valid; the authority is for ten years.",
)
@click.option("--renew", is_flag=True, help="Replace certificates that are there already.")
def certs(
    directory: Path,
    sources: tuple[str, ...],
    destinations: tuple[str, ...],
    operators: tuple[str, ...],
    viewers: tuple[str, ...],
    days: int,
    *,
    renew: bool,
) -> None:
    """Make certificates for encrypted connections between machines of a lab.

    DIRECTORY gets a private authority in ca/ (keep ca.key to yourself) and a folder for each
    host and each person: give it to them as --tls FOLDER. Hosts show their certificate to each
    other; its name and its role decide what it may do. An authority that is there already signs
    further certificates, of those who are named; --renew without names is for all that it has.
    """
    from pageferry.certs import make
    from pageferry.holders import Holder, holders_in
    from wire.trust.access import Role

    known = holders_in(directory)
    asked = {
        Role.SOURCE: sources or (() if known else ("source",)),
        Role.DESTINATION: destinations or (() if known else ("destination",)),
        Role.OPERATOR: operators or (() if known else ("operator",)),
        Role.VIEWER: viewers,
    }
    holders = [Holder.parse(role, text) for role, texts in asked.items() for text in texts]
    made = make(directory, holders or (known if renew else []), days, renew=renew)
    for folder in made:
        click.echo(folder)
    if not made:
        names = ", ".join(holder.name for holder in known)
        click.echo(
            f"nothing to do: there are certificates for {names}; name others, or --renew them",
            err=True,
        )
