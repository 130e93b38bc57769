"""Scenarios as text: a command a line, and below it, behind "> ", what it is expected to print.

Blank lines and lines that begin with "#" are for the reader. A command that is refused prints
"error" with the error's class and its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from paging_core.errors import PageferryError

Verb = Callable[[list[str]], Iterable[str]]
OUTPUT = "> "


def is_command(line: str) -> bool:
    """Whether a line of a scenario is to be carried out."""
    return bool(line.strip()) and not line.startswith(("#", OUTPUT))


def replayed(text: str, verbs: dict[str, Verb]) -> str:
    """The scenario with what its commands really print.

    Raises:
        KeyError: a command that nobody knows.
    """
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(OUTPUT):
            continue
        lines.append(line)
        if is_command(line):
            lines += [OUTPUT + printed for printed in _carried_out(line, verbs)]
    return "\n".join(lines) + "\n"


def _carried_out(line: str, verbs: dict[str, Verb]) -> list[str]:
    verb, *arguments = line.split()
    if verb not in verbs:
        raise KeyError(f"{line!r}: there is no verb {verb!r}; there are {', '.join(sorted(verbs))}")
    try:
        return list(verbs[verb](arguments))
    except PageferryError as error:
        return [f"error {type(error).__name__}: {error}"]


def settings_of(arguments: list[str]) -> dict[str, str]:
    """``key=value`` words; a bare word is switched on."""
    pairs = (word.partition("=") for word in arguments)
    return {key.replace("-", "_"): value if equals else "yes" for key, equals, value in pairs}


def numbers_of(word: str) -> list[int]:
    """``0x400``, ``0x400..0x40f`` (both ends) or several of them with commas between."""
    found: list[int] = []
    for part in word.split(","):
        first, dots, last = part.partition("..")
        found += range(int(first, 0), int(last if dots else first, 0) + 1)
    return found


def shown(numbers: Iterable[int]) -> str:
    """Numbers as a scenario writes them, ascending, runs folded; "none" when there are none."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if not runs:
        return "none"
    return ",".join(f"{a:#x}" if a == b else f"{a:#x}..{b:#x}" for a, b in runs)


def counted(counts: dict[str, int], unit: str = "") -> str:
    """Counts that are not zero, by name; "none" when all are."""
    return ", ".join(f"{name} {n}{unit}" for name, n in counts.items() if n) or "none"
