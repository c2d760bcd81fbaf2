"""Sentences in CoNLL's columns: a token a line, its tag last, an empty line after each sentence.

Columns are parted by tabs or blanks. `-DOCSTART-` begins a document. Tags may be BIO, or IOB1,
where an entity begins with an inside unless it follows another of its kind (CoNLL-2003): what comes
out is BIO.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TextIO

from common.errors import InputError
from common.records.records import Tagged, require_file

START = "-DOCSTART-"
MOST_CHARACTERS = 100_000  # in a line
OUTSIDE = "O"


@dataclass(frozen=True, slots=True)
class TaggedTokens:
    """Tokens and their tags, and in which document of the file they stand, from 0."""

    document: int
    record: Tagged = field(repr=False)


def read(path: Path) -> list[TaggedTokens]:
    """All sentences of a file.

    Raises:
        InputError: Naming file and line, which is not quoted, when a line is none of a sentence.
    """
    try:
        require_file(path, "Name a CoNLL file.")
        with path.open(encoding="utf-8-sig") as lines:
            return list(sentences(lines, str(path)))
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", "Save it as UTF-8.") from None
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}."
        raise InputError(problem, "Name a CoNLL file.") from error


def sentences(lines: TextIO, name: str) -> Iterator[TaggedTokens]:
    """The sentences in open text.

    Args:
        name: What an error calls it.

    Raises:
        InputError: As `read`.
    """
    document, seen = 0, False
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(chain(_bounded(lines, name), [""]), start=1):
        columns = line.split("\t") if "\t" in line else line.split()
        starts = bool(columns) and columns[0].startswith(START)
        if tokens and (starts or not line.strip()):
            yield TaggedTokens(document, Tagged(tokens=tokens, tags=bio(tags)))
            tokens, tags, seen = [], [], True
        if starts:
            document += seen
        elif line.strip():
            token, tag = _columns(columns, f"{name}, line {number}")
            tokens.append(token)
            tags.append(tag)


def _bounded(lines: TextIO, name: str) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: lines.readline(MOST_CHARACTERS + 1), ""), start=1):
        if len(line) > MOST_CHARACTERS:
            problem = f"{name}, line {number}: more than {MOST_CHARACTERS:,} characters."
            raise InputError(problem, "Each line must be a token and its tag.")
        yield line.rstrip("\r\n")


def _columns(columns: list[str], where: str) -> tuple[str, str]:
    tag = columns[-1].strip()
    place, _, kind = tag.partition("-")
    if len(columns) < 2 or not (tag == OUTSIDE or (place in ("B", "I") and kind)):
        raise InputError(
            f"{where}: not a token and a tag.",
            "The last column must be O, B-kind or I-kind; an empty line ends a sentence.",
        )
    return columns[0].strip(), tag


def bio(tags: list[str]) -> list[str]:
    """The same tags as BIO: each entity begins with a B."""
    found: list[str] = []
    for before, tag in zip([OUTSIDE, *tags], tags, strict=False):
        goes_on = before[2:] == tag[2:] and before != OUTSIDE
        found.append(tag if tag == OUTSIDE or goes_on else f"B-{tag[2:]}")
    return found
