"""Tagged sentences in CoNLL's columns."""

from __future__ import annotations

import re
from collections.abc import Iterator

from client.importers.importer import Importer, Skipped, Wishes
from client.importers.source import Source
from common.records import conll
from common.records.records import Record

TAG = re.compile(r"(?:O|[BI]-\S+)$")


class Conll(Importer):
    """Sentences for the task `tag`."""

    name, title = "conll", "tagged sentences (CoNLL columns)"
    endings = (".conll",)

    def knows(self, source: Source) -> bool:
        """Its first lines end in a tag, or it begins a document."""
        lines = [one.rstrip() for one in source.head_text.splitlines()[:40] if one.strip()]
        if not lines:
            return False
        tagged = [bool(TAG.search(one)) and len(one.split()) >= 2 for one in lines]
        return lines[0].startswith(conll.START) or all(tagged)

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:  # noqa: ARG002
        """Sentence by sentence.

        Raises:
            InputError: A line is not a token and a tag; a sentence cannot be told without it.
        """
        with source.text() as text:
            for sentence in conll.sentences(text, source.shown):
                yield sentence.record
