"""What differs between configurations, and what two results say beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from pageferry.document import Document

_MAX_DIFFERENCES = 3


def labels(documents: Sequence[Document], fallback: Sequence[str]) -> list[str]:
    """A column title per document: the settings in which they differ, else its file's name."""
    settings = [dict(document["config"]) for document in documents]
    differing = [key for key in settings[0] if any(s[key] != settings[0][key] for s in settings)]
    titles = ["\n".join(f"{key} {_value(s[key])}" for key in differing) for s in settings]
    if not differing or len(differing) > _MAX_DIFFERENCES or len(set(titles)) < len(titles):
        return list(fallback)
    return titles


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    if isinstance(value, dict):
        return str(value.get("file", "…"))
    return str(value)
