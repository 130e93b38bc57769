"""What is fuzzed: by name, where it is, and what is tried."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
"""A folder of inputs for each target: what fuzzing begins with, and what it once found."""

Run = Callable[[bytes], None]
"""Takes any bytes. Whatever it raises, except a refusal (see `refusals`), is a finding."""


class Target(NamedTuple):
    """Something that reads foreign input.

    Attributes:
        function: ``module:name``, below this package.
        reads: what its input stands for.
    """

    function: str
    reads: str

    def load(self) -> Run:
        """Import it, and all that it tests, here and not before: atheris has to see that.

        Refusals by the thousand are no news.
        """
        importlib.import_module("wire.hosting.logs").configure_logs("error", "fuzz")
        module, name = self.function.split(":")
        run: Run = getattr(importlib.import_module(f"tests.fuzz.{module}"), name)
        return run


TARGETS = {
    "decode": Target("stream:decode", "a message of the page stream, decoded and checked"),
    "batches": Target("stream:batches", "batches with good checksums, into a receiver's memory"),
    "prepare": Target("calls:prepare", "the messages of Prepare and Commit, into the service"),
    "replies": Target("calls:replies", "a source's report, as far as the tables and the result"),
    "state": Target("guest:state", "a guest's state, decoded"),
    "guest": Target("guest:guest", "a guest's memory and state, taken over and run on"),
    "lackey": Target("traces:lackey", "text of lackey's, imported and replayed"),
    "trace": Target("traces:trace", "a trace, opened, shown and replayed"),
    "written": Target("traces:written", "a trace of written pages, opened, shown and replayed"),
    "pages": Target("traces:pages", "a list of touched pages, CSV or Parquet, imported"),
    "bitmaps": Target("traces:bitmaps", "two dirty bitmaps, imported"),
    "damon": Target("traces:damon", "text of damo's, imported"),
    "drmemtrace": Target("traces:drmemtrace", "text of DynamoRIO's view tool, imported"),
    "flow": Target("files:flow", "the directory of a flow, analysed"),
    "grid": Target("files:grid", "a grid of a sweep"),
    "result": Target("files:result", "a result document, compared"),
    "costs": Target("files:costs", "a table of costs"),
    "words": Target("words:words", "names, addresses, quantities and workloads, as they are typed"),
}
BROKEN = {
    "raises": Target("broken:raises", "a letter at which it raises"),
    "ends": Target("broken:ends", "a letter at which the process ends"),
    "hangs": Target("broken:hangs", "a letter at which it never ends"),
    "takes": Target("broken:takes", "a letter at which it takes memory"),
}
"""Left out unless they are named: with them it is tested that findings are found."""
ALL = TARGETS | BROKEN
