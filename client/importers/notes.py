"""Notes: Markdown and plain text, a record for each passage, under its heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath

from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.source import Source
from client.importers.times import from_iso
from common.records.records import Fact, Record

ENDINGS = (".md", ".markdown", ".txt", ".text", ".org", ".rst")
PASSAGE = 1000  # characters; shorter paragraphs are joined
LONGEST = 10_000_000
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
DATE = re.compile(r"^(?:date|created|created_at)\s*:\s*[\"']?(\S[^\"'\n]*)", re.IGNORECASE)


class Notes(Importer):
    """What somebody wrote down."""

    name, title = "notes", "notes (Markdown or text)"

    def knows(self, source: Source) -> bool:
        """A file with the ending of a text, that is one."""
        return PurePath(source.name).suffix.lower() in ENDINGS and "\x00" not in source.head_text

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:  # noqa: ARG002
        """Passage by passage; the time is the front matter's, else the file's."""
        at, heading, passage, matter = _modified(source), "", "", False
        with source.text() as text:
            for number, line in enumerate(iter(lambda: text.readline(LONGEST + 1), ""), start=1):
                plain = line.rstrip()
                if number == 1 and plain == "---":
                    matter = True
                elif matter:
                    matter = plain not in ("---", "...")
                    if found := DATE.match(plain):
                        at = from_iso(found[1].strip()) or at
                elif len(line) > LONGEST:
                    yield Skipped(f"line {number}", f"more than {LONGEST:,} characters")
                elif found := HEADING.match(plain):
                    yield from _fact(heading, passage, at)
                    heading, passage = found[1], ""
                elif not plain and len(passage) >= PASSAGE:
                    yield from _fact(heading, passage, at)
                    passage = ""
                else:
                    passage += plain + "\n"
        yield from _fact(heading, passage, at)


def _fact(heading: str, passage: str, at: str | None) -> Iterator[Record | Skipped]:
    words = re.sub(r"\n{3,}", "\n\n", passage).strip()
    if words:
        yield made("a passage", Fact, text=f"{heading}\n{words}" if heading else words, at=at)


def _modified(source: Source) -> str | None:
    if source.member:
        return None
    return datetime.fromtimestamp(source.path.stat().st_mtime, UTC).isoformat(timespec="seconds")
