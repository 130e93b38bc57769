"""What a worker does with a point, in whatever process or machine it is."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import structlog

from pageferry import in_process
from pageferry.document import Document
from pageferry.predict.predict import Document as Predictions
from pageferry.predict.predict import document_of, predict
from pageferry.request import MigrationOptions
from pageferry.sweep.model import model_digest
from paging_core.errors import PageferryError
from paging_core.exhaustion import ran_out


@dataclass(frozen=True)
class Task:
    """A point as it is handed to a worker.

    Attributes:
        options: of the migration.
        model: `model_digest` of who asks: another model gives other results.
        predict: say beforehand how it will go, from another run of the same load.
    """

    options: MigrationOptions
    model: str
    predict: bool = False


@dataclass(frozen=True)
class Finished:
    """What became of a point.

    Attributes:
        document: its result; None when there is none.
        error: why it failed, in one line; empty when it completed.
        predictions: what the models had expected, if they were asked.
    """

    document: Document | None
    error: str = ""
    predictions: Predictions | None = None


def perform_quietly(task: Task) -> Finished:
    """Run a point in a process that does nothing else: the hosts' logs are dropped."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return perform(task)


def perform(task: Task) -> Finished:
    """Run a point. Raises nothing: what goes wrong belongs to this point alone."""
    if task.model != model_digest():
        return Finished(None, "this worker has another version of pageferry; install the same")
    try:
        document = in_process.run(replace(task.options, source=None, dest=None))
    except PageferryError as error:
        return Finished(None, str(error))
    except Exception as error:  # noqa: BLE001 - the other points go on
        return Finished(None, str(ran_out(error) or f"a bug in pageferry: {error!r}"))
    if document["outcome"] == "completed" and document["verified"]:
        return Finished(document, predictions=_predictions(task))
    said = document["error"]
    return Finished(document, said["message"] if said else f"it ended {document['outcome']}")


def _predictions(task: Task) -> Predictions | None:
    """What the models say of the point, shown an earlier run: the same load, another seed."""
    if not task.predict:
        return None
    earlier = replace(task.options.but(seed=task.options["seed"] + 1), flow=None)
    return document_of(earlier, predict(earlier))
