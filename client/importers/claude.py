"""Claude's export: `conversations.json` with `chat_messages`, and texts that were attached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.json_stream import BrokenOffError, parts
from client.importers.source import Source
from client.importers.times import from_iso
from common.records.records import Message, Record

AUTHORS = {"human": "me", "assistant": "assistant"}
PLACEHOLDER = "This block is not supported on your current device yet."


class Claude(Importer):
    """Conversations with Claude."""

    name, title = "claude", "Claude export"

    def knows(self, source: Source) -> bool:
        """A list of conversations with `chat_messages`."""
        begins = source.head_text.lstrip()
        return begins.startswith("[") and '"chat_messages"' in begins

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:  # noqa: ARG002
        """Conversation by conversation, in the order of their messages."""
        number = 0
        try:
            for _, found in parts(source, ("item",)):
                number += 1
                yield from _conversation(found, f"conversation {number}")
        except BrokenOffError:
            yield Skipped(f"after conversation {number}", "the file breaks off or is no JSON there")


def _conversation(found: Any, where: str) -> Iterator[Record | Skipped]:
    messages = found.get("chat_messages") if isinstance(found, dict) else None
    if not isinstance(messages, list):
        yield Skipped(where, "has no messages (`chat_messages`)")
        return
    key = str(found.get("uuid") or found.get("name") or where)
    for message in messages:
        author = AUTHORS.get(str(message.get("sender"))) if isinstance(message, dict) else None
        if author is None:
            yield Skipped(where, "a message in it is by neither side")
        elif text := _text(message):
            at = from_iso(message.get("created_at"))
            yield made(where, Message, text=text, author=author, conversation=key, at=at)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    texts = [
        one.get("text") for one in blocks if isinstance(one, dict) and one.get("type") == "text"
    ]
    if not any(isinstance(one, str) and one.strip() for one in texts):
        texts = [message.get("text")]
    attached = message.get("attachments")
    for file in attached if isinstance(attached, list) else []:
        if isinstance(file, dict):
            texts.append(file.get("extracted_content"))
    kept = [one.replace(PLACEHOLDER, "").strip() for one in texts if isinstance(one, str)]
    return "\n\n".join(one for one in kept if one)
