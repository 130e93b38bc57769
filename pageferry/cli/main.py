"""`pageferry`: the command that users run."""

from __future__ import annotations

import click

from pageferry.cli.shell import Lazy, LazyGroup

COMMANDS = {
    "demo": Lazy(
        "pageferry.cli.demo:demo", "Migrate a redis-server twice, pages one by one and in groups."
    ),
    "migrate": Lazy(
        "pageferry.cli.migrate:migrate", "Migrate a guest between two hosts, every page proved."
    ),
    "compare": Lazy("pageferry.cli.compare:compare", "Put results of migrations side by side."),
    "analyze": Lazy("pageferry.cli.analyze:analyze", "Ask a flow whether page groups made sense."),
    "predict": Lazy(
        "pageferry.cli.predict:predict", "Say how a migration would go, without migrating."
    ),
    "sweep": Lazy("pageferry.cli.sweep:sweep", "Migrate once for every combination of settings."),
    "report": Lazy("pageferry.cli.report:report", "Draw a sweep, or one flow, as one HTML file."),
    "workloads": Lazy("pageferry.cli.workloads:workloads", "List what a guest can run."),
    "record": Lazy(
        "pageferry.cli.record:record", "Record which pages a running process or VM writes."
    ),
    "measure": Lazy(
        "pageferry.cli.measure:measure", "Measure what tracking costs a running process or VM."
    ),
    "trace": Lazy("pageferry.cli.trace:trace", "Import and show memory traces of real programs."),
    "guests": Lazy(
        "pageferry.cli.guests:guests", "List a host's guests, or start, pause, delete some."
    ),
    "migrations": Lazy(
        "pageferry.cli.migrations:migrations", "List a source host's migrations, or end some."
    ),
    "certs": Lazy("pageferry.cli.certs:certs", "Make certificates for hosts on several machines."),
    "costs": Lazy("pageferry.cli.costs:costs", "List what every event costs, and who says so."),
}


@click.group(
    "pageferry",
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Start here:
  pageferry demo
  pageferry migrate
  pageferry migrate --group-pages 64 --workload hotcold
  pageferry migrate --paging hap --pml --link 10Gbit/s --json result.json
  pageferry migrate --trace examples/traces/redis.parquet --policy qemu
""",
)
@click.version_option(package_name="pageferry", message="pageferry %(version)s")
def main() -> None:
    """A laboratory for the live migration of virtual machines.

    A guest runs on a source host while its writes are tracked as hypervisors do it: shadow
    paging or hardware-assisted paging, a fault for the first write to each clean page or to
    each group of pages. Its memory crosses a gRPC stream in rounds, is rebuilt and proved on
    the destination host, and goes on running there. You see what the tracking cost the guest
    and what the network carried.
    """


if __name__ == "__main__":
    main()
