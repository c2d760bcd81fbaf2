"""ChatGPT's export: `conversations.json`, or several with a number, alone or in the zip file.

Each conversation is a tree of messages; what the person last saw is the way from `current_node`
back to the root. What was not shown to them, or not said by either side, is left out: the system's
words, tools, thoughts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.json_stream import BrokenOffError, parts
from client.importers.source import Source
from client.importers.times import from_epoch
from common.records.records import Fact, Message, Record

AUTHORS = {"user": "me", "assistant": "assistant"}
SPOKEN = ("text", "multimodal_text", "code")  # what a message's content is, where it was said
ABOUT = ("about_user_message", "user_profile", "user_instructions", "about_model_message")


class ChatGPT(Importer):
    """Conversations with ChatGPT."""

    name, title = "chatgpt", "ChatGPT export"

    def knows(self, source: Source) -> bool:
        """A list of conversations, one of which has a `mapping` near its beginning."""
        begins = source.head_text.lstrip()
        if not begins.startswith("["):
            return False
        return '"mapping"' in begins and bool(
            re.search(r'"(current_node|conversation_id)"|"parent"', begins)
        )

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:  # noqa: ARG002
        """Conversation by conversation, each from its first message to the last one seen."""
        number = 0
        try:
            for _, conversation in parts(source, ("item",)):
                number += 1
                yield from _conversation(conversation, number)
        except BrokenOffError:
            yield Skipped(f"after conversation {number}", "the file breaks off or is no JSON there")


def _conversation(found: Any, number: int) -> Iterator[Record | Skipped]:
    where = f"conversation {number}"
    if not isinstance(found, dict) or not isinstance(found.get("mapping"), dict):
        yield Skipped(where, "has no messages (`mapping`)")
        return
    key = found.get("conversation_id") or found.get("id") or found.get("title") or where
    nodes = found["mapping"]
    way, whole = _way(nodes, found.get("current_node"))
    if not whole:
        yield Skipped(where, "its messages do not lead back to a beginning; those that do came in")
    for node in way:
        try:
            yield from _message(node.get("message"), str(key), where)
        except (AttributeError, TypeError, KeyError):
            yield Skipped(where, "a message in it is none")


def _way(nodes: dict[str, Any], last: Any) -> tuple[list[dict[str, Any]], bool]:
    """From the root to the message seen last, and whether the root was reached."""
    if last not in nodes:
        ends = [
            one
            for one, node in nodes.items()
            if isinstance(node, dict) and not node.get("children")
        ]
        last = ends[-1] if ends else next(iter(nodes), None)
    way: list[dict[str, Any]] = []
    seen: set[Any] = set()
    while last is not None:
        node = nodes.get(last) if isinstance(last, str) else None
        if last in seen or not isinstance(node, dict):
            return way[::-1], False
        seen.add(last)
        way.append(node)
        last = node.get("parent")
    return way[::-1], True


def _message(message: Any, conversation: str, where: str) -> Iterator[Record | Skipped]:
    if message is None:
        return
    content, role = message.get("content") or {}, (message.get("author") or {}).get("role")
    if content.get("content_type") == "user_editable_context":
        yield from _facts(content, where)
        return
    told = message.get("recipient", "all") in ("all", None) and message.get("weight", 1) != 0
    hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
    if role not in AUTHORS or not told or hidden or content.get("content_type") not in SPOKEN:
        return
    if text := _text(content):
        at = from_epoch(message.get("create_time"))
        yield made(
            where, Message, text=text, author=AUTHORS[role], conversation=conversation, at=at
        )


def _text(content: dict[str, Any]) -> str:
    said = content.get("parts")
    if said is None:
        said = [content.get("text")]
    texts = [
        one if isinstance(one, str) else one.get("text")
        for one in said
        if isinstance(one, str | dict)
    ]
    return "\n".join(one for one in texts if isinstance(one, str) and one.strip()).strip()


def _facts(content: dict[str, Any], where: str) -> Iterator[Record | Skipped]:
    """What the person told ChatGPT of themselves once and for all (custom instructions)."""
    for key in ABOUT:
        text = content.get(key)
        if isinstance(text, str) and text.strip():
            yield made(where, Fact, text=text.strip())
