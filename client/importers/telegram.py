"""Telegram's export as JSON: one chat, or all of them with the person's own data.

Service messages are left out, and so is what was forwarded, which somebody else wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.json_stream import BrokenOffError, parts
from client.importers.source import Source
from client.importers.times import from_epoch, from_iso
from common.records.records import Message, Record

CHATS = ("", "chats.list.item.", "left_chats.list.item.")  # where a chat's keys are
OWN_ID = "personal_information.user_id"
WANTED = tuple(f"{chat}{key}" for chat in CHATS for key in ("name", "id", "messages.item"))


class Telegram(Importer):
    """Chats of Telegram Desktop."""

    name, title, needs_me = "telegram", "Telegram export (JSON)", True

    def knows(self, source: Source) -> bool:
        """An object with chats, or a chat, whose messages have Telegram's keys."""
        begins = source.head_text.lstrip()
        keys = (
            '"date_unixtime"',
            '"from_id"',
            '"text_entities"',
            '"chats"',
            '"personal_information"',
        )
        return begins.startswith("{") and sum(key in begins for key in keys) >= 2

    def names(self, source: Source) -> Counter[str]:
        """Who wrote how much; nobody where the file says which of them is its person."""
        found: Counter[str] = Counter()
        try:
            for place, value in parts(source, (OWN_ID, *WANTED)):
                if place == OWN_ID:
                    return Counter()
                if (
                    place.endswith("messages.item")
                    and isinstance(value, dict)
                    and value.get("from")
                ):
                    found[str(value["from"])] += 1
        except BrokenOffError:
            pass
        return found

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:
        """Message by message."""
        own, chat, number = "", "chat", 0
        try:
            for place, value in parts(source, (OWN_ID, *WANTED)):
                if place == OWN_ID:
                    own = f"user{value}"
                elif place.endswith("messages.item"):
                    number += 1
                    yield from _message(value, chat, own, wishes.me, f"message {number}")
                elif place.endswith("name"):
                    chat = str(value or "chat")
        except BrokenOffError:
            yield Skipped(f"after message {number}", "the file breaks off or is no JSON there")


def _message(found: Any, chat: str, own: str, me: str, where: str) -> Iterator[Record | Skipped]:
    if not isinstance(found, dict):
        yield Skipped(where, "is no message")
        return
    if found.get("type") != "message" or found.get("forwarded_from") is not None:
        return
    text = _text(found.get("text"))
    if not text:
        return
    mine = found.get("from_id") == own if own else found.get("from") == me
    at = from_epoch(found.get("date_unixtime")) or from_iso(found.get("date"))
    yield made(
        where, Message, text=text, author="me" if mine else "other", conversation=chat, at=at
    )


def _text(found: Any) -> str:
    """The words of a text, which stands as a string or as a list of strings and entities."""
    pieces = found if isinstance(found, list) else [found]
    texts = [one.get("text") if isinstance(one, dict) else one for one in pieces]
    return "".join(one for one in texts if isinstance(one, str)).strip()
