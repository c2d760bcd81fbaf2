"""JSON lines of conversations as models are trained on: OpenAI's `messages`, ShareGPT's turns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.json_stream import BrokenOffError, parts
from client.importers.source import Source
from common.records.records import MOST_CHARACTERS, Message, Record

AUTHORS = {
    "user": "me", "human": "me", "prompter": "me",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
}  # fmt: skip
LISTS = ("messages", "conversations", "conversation", "items")
UNSPOKEN = ("system", "tool", "function", "developer")


class RoleLines(Importer):
    """Conversations with a role for each message."""

    name, title = "messages", "OpenAI or ShareGPT messages (JSON lines)"

    def knows(self, source: Source) -> bool:
        """An object with a list of messages, whose roles are known ones."""
        begins = source.head_text.lstrip()
        roles = ('"role"', '"content"'), ('"from"', '"value"')
        lists = any(f'"{name}"' in begins for name in LISTS)
        return (
            begins.startswith(("{", "["))
            and lists
            and any(all(k in begins for k in r) for r in roles)
        )

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:  # noqa: ARG002
        """Conversation by conversation; one without an id is named after its words."""
        if source.head_text.lstrip().startswith("["):
            yield from _list(source)
            return
        with source.text() as text:
            lines = iter(lambda: text.readline(MOST_CHARACTERS + 1), "")
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield from _line(line, f"line {number}")


def _list(source: Source) -> Iterator[Record | Skipped]:
    number = 0
    try:
        for _, found in parts(source, ("item",)):
            number += 1
            yield from _conversation(found, f"conversation {number}")
    except BrokenOffError:
        yield Skipped(f"after conversation {number}", "the file breaks off or is no JSON there")


def _line(line: str, where: str) -> Iterator[Record | Skipped]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        yield Skipped(where, "not valid JSON")
        return
    yield from _conversation(found, where)


def _conversation(found: Any, where: str) -> Iterator[Record | Skipped]:
    turns = next((found[k] for k in LISTS if k in found), None) if isinstance(found, dict) else None
    if not isinstance(turns, list):
        yield Skipped(where, "has no list of messages")
        return
    said = [_turn(one) for one in turns]
    own = found.get("id") or found.get("conversation_id")
    key = str(own or hashlib.sha256(json.dumps(turns, sort_keys=True).encode()).hexdigest()[:16])
    for author, text in said:
        if author in AUTHORS and text:
            yield made(where, Message, text=text, author=AUTHORS[author], conversation=key)
        elif author not in (*AUTHORS, *UNSPOKEN):
            yield Skipped(where, "a message in it has a role that is not known")


def _turn(found: Any) -> tuple[str, str]:
    if not isinstance(found, dict):
        return "", ""
    content = found.get("content", found.get("value"))
    pieces = content if isinstance(content, list) else [content]
    texts = [one.get("text") if isinstance(one, dict) else one for one in pieces]
    text = "\n".join(one for one in texts if isinstance(one, str)).strip()
    return str(found.get("role") or found.get("from") or ""), text
