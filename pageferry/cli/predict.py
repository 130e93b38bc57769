"""`pageferry predict`: what a migration would take, without one."""

from __future__ import annotations

from typing import Any

import click

from pageferry.cli.json_target import json_option
from pageferry.cli.kinds import option_of
from pageferry.settings import AXES


@click.command(
    params=[option_of(one) for one in AXES.values()],
    epilog="""\b
Examples:
  pageferry predict --memory 64MiB --workload zipf
  pageferry predict --trace examples/traces/redis.parquet --policy qemu --link 300Mbit/s
  pageferry predict --trace vm.parquet --link 10Gbit/s --downtime-limit 300ms
\b
Exit code: 0 it would migrate with its downtime within --downtime-limit; 3 it would not; 1 the
guest did not boot or its kernel gave up; 2 an option or a trace cannot be.
""",
)
@json_option
@click.pass_context
def predict(ctx: click.Context, /, json_target: str | None, **options: Any) -> None:
    """Say how a migration would go, without migrating, and whether it would be in time.

    Takes the options of pageferry migrate about the guest, its tracker, the link and the policy.
    Shows three models side by side: AVG (a constant rate of dirty pages), HIST (what an earlier
    run dirtied, window by window) and a rehearsal of the rounds under the tracker, with nobody
    to send them to. Of a trace of written pages it needs no guest: it is predicted from the pages
    written in each round, at four moments. Below stands the answer: would it migrate within the
    downtime limit, and what would help. docs/prediction.md says how far each model was off.
    """
    from pageferry.cli.json_target import check, written
    from pageferry.cli.shell import EXIT_THRESHOLD
    from pageferry.predict.asking import ask
    from pageferry.predict.page import paragraphs
    from pageferry.predict.predict import document_of
    from pageferry.predict.table import table
    from pageferry.request import MigrationOptions

    check(json_target)
    done = ask(MigrationOptions.typed(options))
    console = written(document_of(done.options, done.predictions, done.answer), json_target)
    console.print(table(done.predictions))
    console.print()
    for paragraph in paragraphs(done.answer, done.options, done.recorded):
        console.print(paragraph, markup=False)
    ctx.exit(0 if done.answer.converges else EXIT_THRESHOLD)
