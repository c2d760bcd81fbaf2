"""Privity's own JSON lines (docs/records.md). Lines that are no records are listed."""

from __future__ import annotations

from collections.abc import Iterator

from client.importers.importer import Importer, Skipped, Wishes
from client.importers.source import Source
from common.errors import InputError
from common.records.records import KINDS, MOST_CHARACTERS, Record, parse_line


class PrivityRecords(Importer):
    """Records as `privity-client export` writes them."""

    name, title = "records", "Privity's records (JSON lines)"
    endings = (".jsonl",)

    def knows(self, source: Source) -> bool:
        """Its first line is an object of a known kind."""
        first = next((one for one in source.head_text.splitlines() if one.strip()), "")
        return first.lstrip().startswith("{") and any(
            f'"kind": "{kind}"' in first or f'"kind":"{kind}"' in first for kind in KINDS
        )

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:  # noqa: ARG002
        """Line by line."""
        with source.text() as text:
            lines = iter(lambda: text.readline(MOST_CHARACTERS + 1), "")
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    yield parse_line(line, f"line {number}")
                except InputError as error:
                    yield Skipped(f"line {number}", error.message.removeprefix(f"line {number}: "))
