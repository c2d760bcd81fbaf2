"""What an importer is: it knows its format by its content, and turns a file into records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from client.importers.source import Source
from common.errors import InputError
from common.records.records import Record


@dataclass(frozen=True, slots=True)
class Skipped:
    """What did not come in.

    Attributes:
        where: A line, a conversation or the like; shown to the person alone.
        reason: Why, without a word of what stands there.
    """

    where: str
    reason: str


def made(where: str, kind: type[Record], **values: Any) -> Record | Skipped:
    """A record of a kind, or why these values, which come from a file, make none."""
    try:
        return kind(**values)
    except InputError as error:
        return Skipped(where, error.message.rstrip("."))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a file does not say of itself, and its person does.

    Attributes:
        me: The person's own name in the file, as it stands there; empty: not said.
        dates: `dmy` or `mdy`, where days and months cannot be told apart; empty: not said.
        currency: Of amounts without one; empty: not said.
        columns: For tables: the key of a record → the heading of its column.
        kind: For tables: the kind of records; empty: by the headings.
    """

    me: str = field(default="", repr=False)
    dates: str = ""
    currency: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""


class Importer(ABC):
    """One format; stateless.

    Attributes:
        name: For `--as`, and in what `--json` says.
        title: As a person calls it.
        endings: Of names of files that are of this format even where their content is damaged.
        needs_me: Whether its files do not say which of the names is the person's own.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = ()
    needs_me: ClassVar[bool] = False

    @abstractmethod
    def knows(self, source: Source) -> bool:
        """Whether the file begins as one of this format does."""

    @abstractmethod
    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:
        """What is in the file, in its order, in memory that does not grow with it.

        Raises:
            InputError: Nothing of it can be read, or a wish is missing; says which.
        """

    def names(self, source: Source) -> Counter[str]:  # noqa: ARG002
        """Who wrote how much, where `needs_me`."""
        return Counter()
