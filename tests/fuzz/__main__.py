"""`python -m tests.fuzz`: every target for its share of some minutes, and what was found.

A target runs in a process of its own, so that an input which ends it, hangs it or makes it take
all memory is found like any other; the input is kept, with the command that repeats it.
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tests.fuzz.catalog import ALL, CORPUS, TARGETS

_LEAST_S = 5
_STARTING_S = 120.0
"""Imports, and the kernels where they are not compiled yet."""


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        names: of the targets.
        seconds: for all of them.
        seed: of everything random; None for another one each time.
        out: where findings and the growing corpus go.
        timeout_s: for one input.
        memory_mib: of a process, with all that it imports.
    """

    names: Sequence[str]
    seconds: float
    seed: int | None
    out: Path
    timeout_s: int
    memory_mib: int


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0.01),
    default=5,
    show_default=True,
    help="For all targets together.",
)
@click.option("--seed", type=click.IntRange(1), help="The same seed tries the same inputs.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/fuzz"), show_default=True)
@click.option("--timeout", default=60, show_default=True, help="Seconds for one input.")
@click.option("--memory", default=3072, show_default=True, help="MiB of a process.")
@click.option("--repeat", nargs=2, metavar="TARGET FILE", help="Run a target on one input.")
@click.option("--corpus", is_flag=True, help="Run every target on its inputs in the tree.")
@click.argument("targets", nargs=-1)
def main(
    minutes: float,
    seed: int | None,
    out: Path,
    timeout: int,
    memory: int,
    repeat: tuple[str, str] | None,
    targets: tuple[str, ...],
    *,
    corpus: bool,
) -> None:
    """Feed TARGETS (all of them, unless named) with inputs that nobody thought of."""
    for name in (*targets, *(repeat or ())[:1]):
        if name not in ALL:
            raise click.UsageError(f"there is no target {name}; they are {', '.join(TARGETS)}")
    if repeat is not None:
        _repeat(repeat[0], [Path(repeat[1])])
        return
    names = targets or tuple(TARGETS)
    if corpus:
        for name in names:
            _repeat(name, sorted((CORPUS / name).iterdir()))
        return
    sys.exit(1 if _all(Options(names, minutes * 60, seed, out, timeout, memory)) else 0)


def _repeat(name: str, inputs: Sequence[Path]) -> None:
    """In this process: what goes wrong is seen where it does."""
    faulthandler.enable()
    run = ALL[name].load()
    for each in inputs:
        click.echo(f"{name} {each}")
        run(each.read_bytes())
    click.echo(f"nothing is wrong with {len(inputs)} inputs of {name}")


def _all(options: Options) -> int:
    """Run them one after the other; how many found something."""
    until = time.monotonic() + options.seconds
    found = 0
    for i, name in enumerate(options.names):
        share_s = (until - time.monotonic()) / (len(options.names) - i)
        found += _one(name, max(_LEAST_S, share_s), options)
    click.echo(f"{found or 'none'} of {len(options.names)} targets found something")
    return found


def _one(name: str, seconds: float, options: Options) -> bool:
    """Whether a target found something, and said so."""
    click.echo(f"== {name}: {ALL[name].reads}; {seconds:.0f} s", nl=False)
    corpus, log = options.out / "corpus" / name, options.out / f"{name}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    before = set(options.out.glob(f"{name}-*"))
    with tempfile.TemporaryDirectory(prefix="pageferry-fuzz-") as scratch, log.open("wb") as said:
        command = _command(name, seconds, options, corpus)
        environment = os.environ | {"TMPDIR": scratch}
        with subprocess.Popen(command, stdout=said, stderr=said, env=environment) as process:
            status = _wait(process, seconds + options.timeout_s + _STARTING_S)
    inputs = sorted(set(options.out.glob(f"{name}-*")) - before)
    click.echo(f", {_runs(log)} inputs")
    if status == 0 and not inputs:
        return False
    _report(name, status, log, inputs)
    return True


def _command(name: str, seconds: float, options: Options, corpus: Path) -> list[str]:
    seed = [] if options.seed is None else [f"-seed={options.seed}"]
    return [
        sys.executable, "-m", "tests.fuzz.one", name,
        f"-max_total_time={round(seconds)}", f"-timeout={options.timeout_s}",
        f"-report_slow_units={options.timeout_s}",  # slow is what is busy here, most of all
        f"-rss_limit_mb={options.memory_mib}", f"-artifact_prefix={options.out / name}-",
        "-print_final_stats=1", "-len_control=0", *seed, str(corpus),
        *([str(CORPUS / name)] if name in TARGETS else []),
    ]  # fmt: skip


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Its status; one that does not even heed libFuzzer's own time limit is ended."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _runs(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    counts = (line.split()[-1] for line in lines if "number_of_executed_units" in line)
    return next(counts, "nobody counted how many")


def _report(name: str, status: int, log: Path, inputs: Sequence[Path]) -> None:
    click.echo(f"error: {name} ended with {status}; the last of {log}:")
    lines = log.read_text(errors="replace").splitlines()
    for line in [line for line in lines if not line.startswith(("#", "INFO", "stat::"))][-25:]:
        click.echo(f"    {line[:200]}")
    for each in inputs:
        click.echo(f"    repeat it: {sys.executable} -m tests.fuzz --repeat {name} {each}")


if __name__ == "__main__":
    main()
