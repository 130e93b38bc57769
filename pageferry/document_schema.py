"""The JSON Schema of a result document, made from the types that it is built of.

``make docs`` writes it to schema/migration-v1.json, where others find it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pageferry import configured
from pageferry import document as documents
from pageferry.document import SCHEMA_NAME, SCHEMA_VERSION, Document
from pageferry.price_range import UNATTRIBUTED
from paging_core.config import GuestKind
from paging_core.events import FAULTS_SINCE_0_1, UNATTRIBUTED_HELP
from paging_core.guest_accounts import BY_KIND, FIXUP, Accounts, all_causes, all_faults

Schema = dict[str, Any]
_COUNT = {"$ref": "#/$defs/count"}
_DEFS: Mapping[str, Schema] = {
    "count": {"type": "integer", "minimum": 0},
    "seconds": {"type": "number", "minimum": 0},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
}


def schema() -> Schema:
    """The schema, whole."""
    raw = msgspec.json.schema(Document)
    document = _plain(raw, raw["$defs"])
    fields = document["properties"]
    fields["config"] = configured.schema()
    faults = {name: one.help for name, one in all_faults().items()}
    fields["faults"] |= _counts({**faults, "total": "All kinds but fixup."}, [FIXUP, "total"])
    guest = fields["guest"]["properties"]
    _name_times(guest["time_ns"])
    for end in guest["range"]["properties"].values():
        _name_times(end["properties"]["time_ns"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA_NAME.replace('.', ':')}:{SCHEMA_VERSION}",
        "title": "The result of one migration",
        **document,
        "allOf": [_of_kind(kind, accounts) for kind, accounts in BY_KIND.items()],
        "$defs": dict(_DEFS),
    }


def _of_kind(kind: GuestKind, accounts: Accounts) -> Schema:
    """A guest of a kind has all that such guests count; what says nothing is a model."""
    says_so: Schema = {"properties": {"kind": {"const": kind.value}}}
    if kind is not GuestKind.MODEL:
        says_so["required"] = ["kind"]
    counted = {
        "faults": {"required": [name for name in accounts.faults if name not in FAULTS_SINCE_0_1]},
        "guest": {"properties": {"time_ns": {"required": list(accounts.causes)}}},
    }
    return {"if": {"properties": {"config": says_so}}, "then": {"properties": counted}}


def _name_times(node: Schema) -> None:
    """Guest time by cause; what no cause explains is there with a twin, and may be negative."""
    base = {"base": "What the same operations take untracked; absent where nobody knows."}
    causes = {name: one.help for name, one in all_causes().items()}
    node |= _counts({**base, **causes}, [])
    node["properties"][UNATTRIBUTED] = {"description": UNATTRIBUTED_HELP, "type": "integer"}


def _counts(help_of: Mapping[str, str], required: Sequence[str]) -> Schema:
    """An object that counts by name.

    Args:
        help_of: the names of all kinds of guest.
        required: of these, what every kind has.
    """
    return {
        "additionalProperties": False,
        "required": list(required),
        "properties": {name: {"description": text, **_COUNT} for name, text in help_of.items()},
    }


def _plain(node: Any, types: Mapping[str, Any]) -> Any:
    """Types where they are used, numbers by their own names, and no field that is not declared."""
    if isinstance(node, list):
        return [_plain(one, types) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = types[node["$ref"].rpartition("/")[2]]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _plain({**target, **rest}, types)
    plain = {key: _plain(value, types) for key, value in node.items() if key != "title"}
    if "properties" in plain:
        order = list(getattr(documents, node["title"]).__annotations__)  # they come sorted
        plain["properties"] = {name: _plain(node["properties"][name], types) for name in order}
        plain["required"] = [name for name in order if name in node["required"]]
        plain["additionalProperties"] = False
    return _named(plain)


def _named(node: Schema) -> Schema:
    rest = {key: value for key, value in node.items() if key != "description"}
    for name, meant in _DEFS.items():
        if rest == meant:
            return {**{k: v for k, v in node.items() if k == "description"},
                    "$ref": f"#/$defs/{name}"}  # fmt: skip
    return node
