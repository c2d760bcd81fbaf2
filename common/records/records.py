"""Records: what a person's file holds, one JSON object a line (docs/records.md).

One dataclass a kind, which checks what it is given wherever a record is made. Strict: an unknown
kind, key or type is refused, in a file with its line, and the message never quotes the value, which
is somebody's private text.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TextIO

from common.errors import InputError
from common.system import strict_json

TEXT, NUMBER, LIST, OBJECT = (str,), (int, float), (list,), (dict,)
AUTHORS = ("me", "other", "assistant")
SPLITS = ("train", "heldout")
MOST_CHARACTERS = 10_000_000  # in one line, so that a file of something else fills no memory
SLACK = 1e-3  # by which probabilities may miss 1
HINT = "Name a file of JSON lines (docs/records.md)."


def _key(*types: type, optional: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """A key of a kind: the JSON types its value may have, and the values where few are allowed."""
    rules = {"types": types, "choices": choices}
    if optional:
        return dataclasses.field(default=None, metadata=rules)
    return dataclasses.field(metadata=rules)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Record:
    """What all kinds of records have in common. The repr shows nothing of the content.

    Checked whenever one is made.

    Attributes:
        at: When, in one form that sorts as text.
        split: `train` or `heldout`, where the record says what it is for.

    Raises:
        InputError: A value has the wrong type or is none of those allowed. It is not quoted.
    """

    kind: ClassVar[str]
    at: str | None = _key(*TEXT, optional=True)
    split: str | None = _key(*TEXT, optional=True, choices=SPLITS)

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, optional, types, choices in _rules(kind):
            value = getattr(self, name)
            if value is None and optional:
                continue
            if not isinstance(value, types) or isinstance(value, bool):
                wanted = " or ".join(one.__name__ for one in types)
                raise InputError(f"{name!r} is a {type(value).__name__}, wanted {wanted}.")
            if choices and value not in choices:
                raise InputError(f"{name!r} must be one of {', '.join(choices)}.")
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{name!r} is no finite number.")
            if isinstance(value, str) and not _is_text(value):
                raise InputError(f"{name!r} is not usable text.")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(redacted)"

    @property
    def values(self) -> dict[str, Any]:
        """The keys of its kind that it has, as JSON values."""
        own = {name: getattr(self, name) for name in keys_of(type(self))}
        return {name: value for name, value in own.items() if value is not None}


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: half a character from broken JSON cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache
def _rules(kind: type[Any]) -> list[tuple[str, bool, tuple[type, ...], tuple[str, ...]]]:
    """Name, whether it may be missing, types and choices of each key."""
    return [
        (field.name, field.default is None, field.metadata["types"], field.metadata["choices"])
        for field in dataclasses.fields(kind)
    ]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message(Record):
    """Something that was said in a conversation."""

    kind = "message"
    text: str = _key(*TEXT)
    author: str = _key(*TEXT, choices=AUTHORS)
    conversation: str = _key(*TEXT)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fact(Record):
    """Something that is so."""

    kind = "fact"
    text: str = _key(*TEXT)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Rating(Record):
    """What the person thinks of an item."""

    kind = "rating"
    item: str = _key(*TEXT)
    title: str = _key(*TEXT)
    value: float = _key(*NUMBER)
    text: str | None = _key(*TEXT, optional=True)
    tags: Sequence[Any] | None = _key(*LIST, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Measurement(Record):
    """A measured quantity, such as a weight."""

    kind = "measurement"
    name: str = _key(*TEXT)
    value: float = _key(*NUMBER)
    unit: str = _key(*TEXT)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Transaction(Record):
    """Money that came or went."""

    kind = "transaction"
    amount: float = _key(*NUMBER)
    currency: str = _key(*TEXT)
    payee: str = _key(*TEXT)
    category: str | None = _key(*TEXT, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Answer(Record):
    """A question and its answer."""

    kind = "answer"
    question: str = _key(*TEXT)
    answer: str = _key(*TEXT)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Labelled(Record):
    """A text with its label, or with a probability for each label."""

    kind = "example"
    text: str = _key(*TEXT)
    label: str | None = _key(*TEXT, optional=True)
    probabilities: Mapping[str, Any] | None = _key(*OBJECT, optional=True)

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        if (self.label is None) == (self.probabilities is None):
            raise InputError("an example needs either 'label' or 'probabilities'.")
        if self.probabilities is not None and not _are_chances(self.probabilities):
            problem = "'probabilities' must be numbers from 0 to 1 that add up to 1."
            raise InputError(problem, "Give each label its share, or one 'label' alone.")


def _are_chances(given: Mapping[str, Any]) -> bool:
    values = list(given.values())
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        return False
    return all(0 <= one <= 1 for one in values) and abs(math.fsum(values) - 1) < SLACK


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tagged(Record):
    """A sentence with a tag for each token."""

    kind = "tagged"
    tokens: Sequence[Any] = _key(*LIST)
    tags: Sequence[Any] = _key(*LIST)

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        if not all(isinstance(one, str) for one in (*self.tokens, *self.tags)):
            raise InputError("'tokens' and 'tags' must be lists of strings.")
        if len(self.tokens) != len(self.tags):
            problem = f"{len(self.tokens)} tokens, but {len(self.tags)} tags."
            raise InputError(problem, "Give each token one tag.")
        for before, tag in itertools.pairwise(("O", *self.tags)):
            if not _follows(before, tag):
                problem = "'tags' must be O, B-kind, or I-kind after B-kind or I-kind."
                raise InputError(problem, "Begin each entity with B-.")


def _follows(before: str, tag: str) -> bool:
    """Whether this tag may stand after that one (BIO, also called IOB2)."""
    if tag == "O":
        return True
    place, _, kind = tag.partition("-")
    return bool(kind) and (place == "B" or tag == f"I-{before[2:]}")


KINDS: dict[str, type[Record]] = {
    one.kind: one
    for one in (Message, Fact, Rating, Measurement, Transaction, Answer, Labelled, Tagged)
}


def keys_of(kind: type[Record]) -> list[str]:
    """The keys that only this kind has, in order."""
    common = {field.name for field in dataclasses.fields(Record)}
    return [field.name for field in dataclasses.fields(kind) if field.name not in common]


def record_of(
    kind: str, values: Mapping[str, Any], at: str | None = None, split: str | None = None
) -> Record:
    """A record from the JSON values of its keys.

    Raises:
        InputError: It is none: no such kind, a key too many or too few, or a value of a wrong type.
    """
    if kind not in KINDS:
        raise InputError("unknown kind.", f"Known kinds: {', '.join(KINDS)}.")
    fields = {field.name: field for field in dataclasses.fields(KINDS[kind])}
    for name in keys_of(KINDS[kind]):
        if name not in values and fields[name].default is dataclasses.MISSING:
            raise InputError(f"a {kind} record without {name!r}.")
    for name, value in values.items():
        if name not in fields:
            known = ", ".join(sorted({*fields, "kind"}))
            raise InputError(f"unknown key in a {kind} record.", f"Known keys: {known}.")
        if value is None:
            wanted = " or ".join(one.__name__ for one in fields[name].metadata["types"])
            raise InputError(f"{name!r} is a NoneType, wanted {wanted}.")
    given = dict(values)
    given |= {name: one for name, one in (("at", at), ("split", split)) if one is not None}
    return KINDS[kind](**given)


def read_records(path: Path) -> list[Record]:
    """Read one person's `.jsonl` file, in file order.

    Raises:
        InputError: Naming file and line, when a line is not a record.
    """
    try:
        require_file(path, HINT)
        with path.open(encoding="utf-8-sig") as lines:
            return list(_parse_lines(lines, path))
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8 text."
        raise InputError(problem, "Unpack it if it is packed; save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", HINT) from error


def require_file(path: Path, hint: str) -> None:
    """Refuse a folder, and a pipe or device, which to open may take for ever.

    Raises:
        InputError: It is none that can be read to its end.
        OSError: It is not there.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path} is not a file but a folder, a pipe or a device.", hint)


def _parse_lines(lines: TextIO, path: Path) -> Iterator[Record]:
    longest = iter(lambda: lines.readline(MOST_CHARACTERS + 1), "")
    for number, line in enumerate(longest, start=1):
        if len(line) > MOST_CHARACTERS:
            problem = f"{path}, line {number}: more than {MOST_CHARACTERS:,} characters."
            raise InputError(problem, "Each line must be one JSON object.")
        if line.strip():
            yield parse_line(line, f"{path}, line {number}")


def parse_line(line: str, where: str) -> Record:
    """The record in one line of JSON.

    Raises:
        InputError: Beginning with `where`, when it is none. The line is not quoted.
    """
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
    kind = entry.pop("kind", None)
    try:
        if not isinstance(kind, str):
            raise InputError("unknown kind.", f"Known kinds: {', '.join(KINDS)}.")
        found = record_of(kind, entry)
    except InputError as error:
        raise InputError(f"{where}: {error.message}", error.hint) from None
    return dataclasses.replace(found, at=_utc(found.at, where))


def _utc(at: str | None, where: str) -> str | None:
    """The time in one form that sorts as text; a time without zone is taken for UTC."""
    if at is None:
        return None
    try:
        time = datetime.fromisoformat(at)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):  # the second: beyond the year 9999 in UTC
        raise InputError(f"{where}: 'at' is not an ISO 8601 time.") from None
