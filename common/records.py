"""Records: what a person's file holds, one JSON object a line (docs/records.md).

Strict: an unknown kind, key or type is refused with its file and line, and the message never
quotes the value, which is somebody's private text.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from common import strict_json
from common.errors import InputError

COMMON_KEYS = {"kind", "at", "split"}
TEXT, NUMBER, LIST, OBJECT = (str,), (int, float), (list,), (dict,)

# kind → (required keys, optional keys), each with the JSON types it may have
KINDS: dict[str, tuple[dict[str, tuple[type, ...]], dict[str, tuple[type, ...]]]] = {
    "message": ({"text": TEXT, "author": TEXT, "conversation": TEXT}, {}),
    "fact": ({"text": TEXT}, {}),
    "rating": ({"item": TEXT, "title": TEXT, "value": NUMBER}, {"text": TEXT, "tags": LIST}),
    "measurement": ({"name": TEXT, "value": NUMBER, "unit": TEXT}, {}),
    "transaction": ({"amount": NUMBER, "currency": TEXT, "payee": TEXT}, {"category": TEXT}),
    "answer": ({"question": TEXT, "answer": TEXT}, {}),
    "example": ({"text": TEXT}, {"label": TEXT, "probabilities": OBJECT}),
    "tagged": ({"tokens": LIST, "tags": LIST}, {}),
}
AUTHORS = ("me", "other", "assistant")
SPLITS = ("train", "heldout")
MOST_CHARACTERS = 10_000_000  # in one line, so that a file of something else fills no memory
HINT = "Name a file of JSON lines (docs/records.md)."


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `values` holds the keys of its kind; its repr shows none of them."""

    kind: str
    values: dict[str, Any] = field(repr=False)
    at: str | None = None
    split: str | None = None


def read_records(path: Path) -> list[Record]:
    """Read one person's `.jsonl` file, in file order.

    Raises:
        InputError: Naming file and line, when a line is not a record.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe may take for ever
            raise InputError(f"{path} is not a file but a folder, a pipe or a device.", HINT)
        with path.open(encoding="utf-8-sig") as lines:
            return list(_parse_lines(lines, path))
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8 text."
        raise InputError(problem, "Unpack it if it is packed; save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", HINT) from error


def _parse_lines(lines: TextIO, path: Path) -> Iterator[Record]:
    longest = iter(lambda: lines.readline(MOST_CHARACTERS + 1), "")
    for number, line in enumerate(longest, start=1):
        if len(line) > MOST_CHARACTERS:
            problem = f"{path}, line {number}: more than {MOST_CHARACTERS:,} characters."
            raise InputError(problem, "Each line must be one JSON object.")
        if line.strip():
            yield _parse(line, f"{path}, line {number}")


def _parse(line: str, where: str) -> Record:
    try:
        entry = strict_json.decode(line)
    except json.JSONDecodeError as error:
        problem = f"{where}: not valid JSON ({error.msg} at column {error.colno})."
        raise InputError(problem, "Each line must be one JSON object.") from None
    except strict_json.RepeatedKeyError:
        problem = f"{where}: a key stands twice in one object."
        raise InputError(problem, "Keep the one that is meant.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not usable JSON.", "Each line must be one object.") from None
    if not isinstance(entry, dict):
        raise InputError(f"{where}: a JSON {type(entry).__name__}, not an object.")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{where}: unknown kind.", f"Known kinds: {', '.join(KINDS)}.")
    _check_keys(entry, kind, where)
    _check_choices(entry, where)
    values = {key: value for key, value in entry.items() if key not in COMMON_KEYS}
    return Record(kind, values, _utc(entry.get("at"), where), entry.get("split"))


def _utc(at: str | None, where: str) -> str | None:
    """The time in one form that sorts as text; a time without zone is taken for UTC."""
    if at is None:
        return None
    try:
        time = datetime.fromisoformat(at)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):  # the second: beyond the year 9999 in UTC
        raise InputError(f"{where}: 'at' is not an ISO 8601 time.") from None


def _check_keys(entry: dict[str, Any], kind: str, where: str) -> None:
    required, optional = KINDS[kind]
    allowed = required | optional | {"at": TEXT, "split": TEXT, "kind": TEXT}
    for key in required:
        if key not in entry:
            raise InputError(f"{where}: a {kind} record without {key!r}.")
    for key, value in entry.items():
        if key not in allowed:
            known = ", ".join(sorted(allowed))
            raise InputError(f"{where}: unknown key in a {kind} record.", f"Known keys: {known}.")
        if not isinstance(value, allowed[key]) or isinstance(value, bool):
            wanted = " or ".join(t.__name__ for t in allowed[key])
            raise InputError(f"{where}: {key!r} is a {type(value).__name__}, wanted {wanted}.")


def _check_choices(entry: dict[str, Any], where: str) -> None:
    for key, choices in (("author", AUTHORS), ("split", SPLITS)):
        if key in entry and entry[key] not in choices:
            raise InputError(f"{where}: {key!r} must be one of {', '.join(choices)}.")
    if entry["kind"] == "example" and ("label" in entry) == ("probabilities" in entry):
        raise InputError(f"{where}: an example needs either 'label' or 'probabilities'.")
