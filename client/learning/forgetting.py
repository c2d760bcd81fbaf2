"""Forgetting: records go, and so does everything that was made of them.

A record may be in the personal adapter, in the one before it, in a fit that is not done, and in
what this device keeps of a shared adapter. None of these can be cleaned of one record, so they go
whole, in the same transaction; what is left is learnt from anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from client.learning.adapters import KEPT, PERSONAL
from client.learning.history import BEFORE, UNFINISHED

if TYPE_CHECKING:
    from client.vault.vault import Vault
    from common.records.records import Record

DERIVED = (PERSONAL, BEFORE, UNFINISHED, KEPT)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall go; what is not said leaves every record in.

    Attributes:
        query: Words that stand in it, whatever their case.
        source: The file it came from.
        person: The conversation it is part of.
        since: Not before this time, as records have it.
        items: Its number.
        everything: All there is.
    """

    query: str = field(default="", repr=False)
    source: str = field(default="", repr=False)
    person: str = field(default="", repr=False)
    since: str = ""
    items: Collection[int] = ()
    everything: bool = False

    @property
    def nothing(self) -> bool:
        """Whether nothing was said."""
        said = self.query, self.source, self.person, self.since, self.items, self.everything
        return not any(said)

    def fits(self, item: int, record: Record, source: str) -> bool:
        """Whether a record is all that was said."""
        text = "\n".join(str(value) for value in record.values.values()).casefold()
        conversation = str(record.values.get("conversation", ""))
        return (
            self.query.casefold() in text
            and self.source in ("", source)
            and self.person.casefold() in ("", conversation.casefold())
            and (not self.since or (record.at is not None and record.at >= self.since))
            and (not self.items or item in self.items)
        )


def found(vault: Vault, wanted: Wanted) -> Iterator[tuple[int, Record, str]]:
    """Number, record and source of all that would go, in the order of their import."""
    for item, record, source in vault.records.items():
        if wanted.fits(item, record, source):
            yield item, record, source


def forget(vault: Vault, items: Collection[int]) -> None:
    """Remove these records and all that was made of them, at once, and leave no copy in the file.

    Raises:
        PrivityError: Another process is reading the vault, which keeps old pages of it.
    """
    store = vault.store
    with store.together():
        vault.records.remove(items)
        for prefix in DERIVED:
            for key in store.keys(prefix):
                store.drop(key)
    vault.wipe_free_space()
