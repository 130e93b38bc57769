"""Limits on the numbers of a result document, for scripts: ``--fail-if "overhead > 1%"``.

Every number of a document can be named by its path (``pages.sent``, ``guest.time_ns.fixup``,
``rounds[-1].dirty``), and those that people ask for most have short names.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pageferry.document import Document
from pageferry.tables import overhead
from paging_core.errors import BadOption
from paging_core.units import (
    NS_PER_S,
    exact_rate,
    format_bytes,
    format_ns,
    parse_duration_ns,
    parse_rate_bits_per_s,
    parse_size_bytes,
)

SHORT: Mapping[str, str] = {
    "overhead": "guest.overhead",
    "slowdown": "guest.slowdown",
    "downtime": "time.downtime_s",
    "total": "time.total_s",
    "wire": "bytes.wire",
    "fixups": "faults.fixup",
    "faults": "faults.total",
    "falsely-dirty": "pages.falsely_dirty",
    "rounds": "rounds",
}
"""Names for the numbers that are asked for most."""
_MADE_OF: Mapping[str, str] = {"guest.overhead": "guest.slowdown"}
"""Numbers that are computed, and the field of the document that they are computed from."""
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"\s*([A-Za-z][\w.\-\[\]]*)\s*(>=|<=|==|!=|>|<)\s*(\S.*?)\s*")
_STEP = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]")
_EXAMPLE = 'write it like "overhead > 1%" or "downtime > 300ms"'


@dataclass(frozen=True)
class Threshold:
    """A condition under which a command fails.

    Attributes:
        text: as it was typed.
        path: of the number, from the document.
        comparison: of it with the limit.
        limit: in the number's unit.
    """

    text: str
    path: str
    comparison: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Read a condition.

        Raises:
            BadOption: it is no condition, or names nothing that a document can have.
        """
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise BadOption(f"{text!r} is no condition; {_EXAMPLE}")
        name, comparison, limit = match.groups()
        path = SHORT.get(name, name)
        _check_path(path, name)
        return cls(text, path, comparison, _limit(limit, path, text))

    def holds(self, document: Document) -> bool:
        """Whether the document fulfils the condition, and so fails.

        A number that the document does not know fails as well: a script that sets a limit must not
        be told that all is well because nobody measured.
        """
        value = self.value(document)
        if value is None:
            return _is_unknown(document, self.path)
        return _COMPARISONS[self.comparison](value, self.limit)

    def value(self, document: Document) -> float | None:
        """The number; None where this document has none, such as a round that was not needed."""
        if self.path == "guest.overhead":
            return overhead(document)
        return _number(document, self.path)

    def complaint(self, document: Document) -> str:
        """One line that says what was found."""
        value = self.value(document)
        if value is None:
            return f"--fail-if {self.text!r}: it is not known{_why(self.path)}"
        return f"--fail-if {self.text!r}: it is {shown(value, self.path)}"


def failed(thresholds: Sequence[Threshold], document: Document) -> Iterator[str]:
    """A line for each condition that a document fulfils."""
    return (one.complaint(document) for one in thresholds if one.holds(document))


def shown(value: float, path: str) -> str:
    """A number of a document with its unit."""
    if path == "guest.overhead":
        return f"{100 * value:.4g} %"
    match _unit(path):
        case "s":
            return format_ns(value * NS_PER_S)
        case "ns":
            return format_ns(value)
        case "bytes":
            return format_bytes(value)
        case "bit/s":
            return exact_rate(int(value))
        case _:
            return f"{value:,.6g}" if value % 1 else f"{value:,.0f}"


def _number(document: Any, path: str) -> float | None:
    try:
        found = _found(document, path)
    except (IndexError, KeyError, TypeError):
        return None
    if isinstance(found, list):
        return len(found)
    return float(found) if isinstance(found, int | float) else None


def _is_unknown(document: Any, path: str) -> bool:
    """Whether the document has the field and says null; a round that was not needed has none."""
    try:
        return _found(document, _MADE_OF.get(path, path)) is None
    except (IndexError, KeyError, TypeError):
        return False


def _found(document: Any, path: str) -> Any:
    found = document
    for name, index in _STEP.findall(path):
        found = found[int(index)] if index else found[name]
    return found


def _why(path: str) -> str:
    if _MADE_OF.get(path, path).startswith(("guest.slowdown", "guest.range")):
        return (
            ", for the guest had no untracked twin (there is none on the real clock, "
            "nor with --no-twin)"
        )
    return ""


def _unit(path: str) -> str:
    if path.startswith(("guest.time_ns.", "time.downtime_parts_s.")):
        return "ns" if "_ns" in path else "s"
    if path.startswith("bytes.") or path.endswith("_bytes"):
        return "bytes"
    if path.endswith("_bits_per_s"):
        return "bit/s"
    last = path.rpartition("_")[2]
    return last if last in {"s", "ns"} else ""


def _limit(text: str, path: str, condition: str) -> float:
    """The limit in the unit of the number that it limits."""
    try:
        return float(text)
    except ValueError:
        pass
    unit = _unit(path)
    if text.endswith("%"):
        return _share(text, path, condition)
    if unit in {"s", "ns"}:
        duration_ns = parse_duration_ns(text)
        return duration_ns / NS_PER_S if unit == "s" else duration_ns
    if unit == "bytes":
        return parse_size_bytes(text)
    if unit == "bit/s":
        return parse_rate_bits_per_s(text)
    raise BadOption(f"{condition!r}: {text!r} is no number of what {path} counts; {_EXAMPLE}")


def _share(text: str, path: str, condition: str) -> float:
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        raise BadOption(f"{condition!r}: {text!r} is no percentage; {_EXAMPLE}") from None
    if path != "guest.overhead":
        raise BadOption(f"{condition!r}: only overhead is a percentage; {_EXAMPLE}")
    return share


def _check_path(path: str, name: str) -> None:
    known = list(paths())
    if re.sub(r"\[-?\d+\]", "[]", path) in known or path == "guest.overhead":
        return
    close = difflib.get_close_matches(name, [*SHORT, *known], 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SHORT)} and all others"
    raise BadOption(f"a result has no number {name!r}; {hint} (docs/result-document.md)")


def paths() -> Iterator[str]:
    """Of every number that a document can have."""
    # Here and not above: the schema is only needed for the few who set limits.
    from pageferry.document_schema import schema  # noqa: PLC0415

    whole = schema()
    yield "rounds"
    yield from _paths(whole, "", whole["$defs"])


def _paths(node: Mapping[str, Any], prefix: str, defs: Mapping[str, Any]) -> Iterator[str]:
    for name, field in node.get("properties", {}).items():
        options = field.get("anyOf", [field])
        for one in options:
            meant = defs[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
            if meant.get("type") in {"integer", "number"}:
                yield prefix + name
            elif meant.get("type") == "array":
                yield from _paths(meant["items"], f"{prefix}{name}[].", defs)
            else:
                yield from _paths(meant, f"{prefix}{name}.", defs)
