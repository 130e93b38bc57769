"""`pageferry demo`: one real program migrated twice, pages one by one and in groups."""

from __future__ import annotations

from pathlib import Path

import click

from pageferry.cli.json_target import json_option

_TRACE = Path("examples", "traces", "redis.parquet")
_MEMORY_BYTES = 64 << 20
_LINK_BITS_PER_S = 100_000_000
"""So slow that the server writes to all of its heap again while the first round lasts."""


@click.command()
@click.option(
    "--group-pages",
    type=int,
    metavar="N",
    default=64,
    show_default=True,
    help="Group size of the second migration.",
)
@click.option(
    "--out",
    "directory",
    metavar="DIR",
    default=None,
    type=click.Path(file_okay=False),
    help="Keep both result documents there.",
)
@json_option
@click.option("--no-progress", is_flag=True, help="Only the closing tables.")
@click.pass_context
def demo(
    ctx: click.Context,
    /,
    group_pages: int,
    directory: str | None,
    json_target: str | None,
    no_progress: bool,
) -> None:
    """Migrate a redis-server under load twice, under shadow paging.

    Its memory accesses were recorded and are replayed in a guest, once with every page
    tracked by itself and once in groups, over a link of 100 Mbit/s. Ends with both results
    side by side.
    """
    from pageferry.cli.run import Output
    from pageferry.cli.two import show_both
    from pageferry.request import MigrationOptions

    if group_pages == 1:
        raise click.BadParameter(
            "the first migration has groups of 1 already; give another size, such as 64",
            param_hint="--group-pages",
        )
    trace = _shipped(_TRACE)
    single = MigrationOptions.of(
        memory_bytes=_MEMORY_BYTES,
        trace=str(trace),
        link_bits_per_s=_LINK_BITS_PER_S,
    )
    grouped = single.but(group_pages=group_pages)
    both = {"groups of 1": single, f"groups of {group_pages}": grouped}
    output = Output(json_target, progress=not no_progress)
    ctx.exit(show_both(both, output, directory))


def _shipped(path: Path) -> Path:
    found = Path(__file__).parents[2] / path
    if not found.is_file():
        raise click.UsageError(
            f"{path} is not there: the demo runs from a clone; elsewhere use "
            "pageferry migrate --trace FILE"
        )
    return found
