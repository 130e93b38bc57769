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

    DIR is what pageferry sweep --out or pageferry migrate --flow wrote. First the verdict in a
    few sentences, then pictures, then every run with the command that repeats it. The file needs
    no network, and reads on a phone, in print, light and dark.
    """
    from pageferry import results
    from pageferry.cli.output import stderr_console
    from pageferry.report.flows import flow_report
    from pageferry.report.sweeps import sweep_report
    from pageferry.sweep.directory import MANIFEST

    place = Path(directory)
    file = target or str(place / "report.html")
    if place.is_dir():
        results.check_target(file)
    is_sweep = (place / MANIFEST).is_file()
    text = sweep_report(place) if is_sweep else flow_report(place)
    results.write_text(text, file)
    stderr_console().print(f"report in {file}", markup=False, soft_wrap=True)
