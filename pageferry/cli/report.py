"""`pageferry report`: one HTML file that answers."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="""\b
Examples:
  pageferry migrate --group-pages 64 --flow out/flow && pageferry report out/flow
  pageferry sweep examples/answer.toml --out out/answer && pageferry report out/answer
"""
)
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option(
    "--out",
    "target",
    metavar="FILE",
    default=None,
    type=click.Path(dir_okay=False),
    help="The file to write.  [default: DIR/report.html]",
)
def report(directory: str, target: str | None) -> None:
    """Draw a sweep, or the flow of one migration, as one HTML file.

    DIR is what pageferry sweep --out or pageferry migrate --flow wrote. First a table for
    each load and what holds for all of them, then pictures, then every run with the command that
    repeats it. The file needs
    no network, and reads on a phone, in print, light and dark.
    """
    from pageferry import results
    from pageferry.cli.output import stderr_console
    from pageferry.damage import computing_from
    from pageferry.sweep.directory import MANIFEST, existing

    place = Path(directory)
    file = target or str(place / "report.html")
    is_sweep = (place / MANIFEST).is_file()
    if is_sweep:
        existing(place)
    else:
        from pageferry.analysis.flow import checked

        checked(place)
    results.check_target(file)
    with computing_from(f"what lies in {place}", "run it again into another directory"):
        text = _sweep(place) if is_sweep else _flow(place)
    results.write_text(text, file)
    stderr_console().print(f"report in {file}", markup=False, soft_wrap=True)


# The libraries that draw take seconds to load: a mistake is reported before.


def _sweep(place: Path) -> str:
    from pageferry.report.sweeps import sweep_report

    return sweep_report(place)


def _flow(place: Path) -> str:
    from pageferry.report.flows import flow_report

    return flow_report(place)
