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
""",
)
@json_option
def predict(json_target: str | None, **options: Any) -> None:
    """Say how a migration would go, without migrating.

    Takes the options of pageferry migrate about the guest, its tracker, the link and the policy.
    Shows three models side by side: AVG (a constant rate of dirty pages), HIST (what an earlier
    run dirtied, window by window) and a rehearsal of the rounds under the tracker, with nobody
    to send them to. docs/prediction.md says how far each was off.
    """
    from pageferry.cli.json_target import check, written
    from pageferry.predict.predict import document_of
    from pageferry.predict.predict import predict as all_models
    from pageferry.predict.table import table
    from pageferry.request import MigrationOptions

    asked = MigrationOptions.typed(options)
    asked.guest_config()
    check(json_target)
    predictions = all_models(asked)
    written(document_of(asked, predictions), json_target).print(table(predictions))
