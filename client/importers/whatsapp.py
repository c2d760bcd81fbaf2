"""WhatsApp's export of a chat as text, as phones in many languages write it.

A message begins with a date and a time, in brackets (iOS) or before a dash (Android), and a name
before a colon; other lines go on with the message before. Which number is the day and which is the
month is told by the whole file. System lines have no name, and media that were left out no text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.source import Source
from client.importers.times import from_parts, possible_orders
from common.errors import InputError
from common.records.records import Message, Record

MOST_CHARACTERS = 10_000_000  # in one message
MARKS = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\ufeff\u2068\u2069"))
SPACES = dict.fromkeys(map(ord, "\u00a0\u202f\u2009\u2007\u3000"), " ")
DATE = r"(\d{1,4})[./\-\u5e74] ?(\d{1,2})[./\-\u6708] ?(\d{1,4})\.?\u65e5?"
HALF = r"a\. ?m\.?|p\. ?m\.?|[aApP]\.?[mM]\.?|上午|下午|凌晨|早上|中午|晚上|오전|오후|午前|午後"
TIME = rf"(?:({HALF}) ?)?(\d{{1,2}})[:.](\d{{2}})(?:[:.](\d{{2}}))?(?: ?({HALF}))?"
START = re.compile(
    rf"^(\[)?{DATE},? ?(?:at |um |à |alle |kl\. ?)?{TIME}(?(1)\]|),? ?(?:- ?|– ?)?(.*)$", re.DOTALL
)
AUTHOR = re.compile(r"^([^:\n]{1,80}):(?: |$|(?=\S))(.*)$", re.DOTALL)
LATE = re.compile(r"p|下午|晚上|오후|午後", re.IGNORECASE)
NOON = re.compile(r"中午")
LEFT_OUT = re.compile(
    r"^<[^<>]{3,80}>$|^<[^<>:]{2,40}: ?[^<>]+>$"
    r"|^\S+\.(?:jpg|jpeg|png|webp|mp4|opus|m4a|pdf|vcf) \([^()]+\)$"
    r"|^(?:image|video|audio|sticker|gif|document|contact card) omitted$"
    r"|^(?:bild|video|audio|sticker|gif|dokument|kontaktkarte) weggelassen$"
    r"|^(?:imagen|imagem|vídeo|video|audio|áudio|sticker|documento) (?:omitid[oa]|ocultad[oa])s?$"
    r"|^(?:immagine|video|audio|sticker|documento) omess[oa]$"
    r"|^(?:image|vidéo|audio|sticker|document) absente?$",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Line:
    """The beginning of a message."""

    date: tuple[int, int, int]
    clock: tuple[int, int, int]
    rest: str = field(repr=False)


class WhatsApp(Importer):
    """A chat of WhatsApp."""

    name, title, needs_me = "whatsapp", "WhatsApp export (text)", True

    def knows(self, source: Source) -> bool:
        """Two of its first lines, or its only one, begin as messages do."""
        lines = [one for one in source.head_text.splitlines()[:50] if one.strip()]
        starts = sum(_start(one) is not None for one in lines)
        return starts >= min(2, len(lines)) and starts > 0

    def names(self, source: Source) -> Counter[str]:
        """Who wrote how much."""
        found: Counter[str] = Counter()
        for line in _lines(source):
            start = _start(line)
            if start and (said := AUTHOR.match(start.rest)):
                found[said[1].strip()] += 1
        return found

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:
        """Message by message; the conversation is named after the file."""
        order = wishes.dates or _order(source)
        chat = _chat(source)
        for number, line, text in _messages(source):
            author = AUTHOR.match(line.rest)
            if author is None:
                continue
            words = (author[2] + text).strip()
            at = from_parts(line.date, order, *line.clock)
            if at is None:
                yield Skipped(f"line {number}", f"there is no such date (read as {order})")
            elif len(words) > MOST_CHARACTERS:
                yield Skipped(f"line {number}", f"more than {MOST_CHARACTERS:,} characters")
            elif words and not LEFT_OUT.match(words):
                mine = author[1].strip() == wishes.me
                yield made(
                    f"line {number}",
                    Message,
                    text=words,
                    author="me" if mine else "other",
                    conversation=chat,
                    at=at,
                )


def _lines(source: Source) -> Iterator[str]:
    with source.text() as text:
        yield from iter(lambda: text.readline(MOST_CHARACTERS + 1), "")


def _messages(source: Source) -> Iterator[tuple[int, _Line, str]]:
    """Number of the first line, that line, and the lines that go on with it."""
    begun: tuple[int, _Line] | None = None
    more: list[str] = []
    length = 0
    for number, line in enumerate(_lines(source), start=1):
        start = _start(line)
        if start is None:
            length += len(line)
            if length <= MOST_CHARACTERS:
                more.append(line)
            continue
        if begun:
            yield *begun, _joined(more)
        begun, more, length = (number, start), [], 0
    if begun:
        yield *begun, _joined(more)


def _joined(lines: list[str]) -> str:
    return "".join("\n" + _plain(line) for line in lines)


def _plain(line: str) -> str:
    return line.rstrip("\r\n").translate(MARKS)


def _start(line: str) -> _Line | None:
    plain = _plain(line)
    found = START.match(plain.translate(SPACES)[:200])
    if found is None:
        return None
    _, a, b, c, before, hour, minute, second, after, _ = found.groups()
    half = before or after or ""
    clock = _hours(int(hour), half), int(minute), int(second or 0)
    if clock[0] > 23 or clock[1] > 59 or clock[2] > 59:
        return None
    return _Line((int(a), int(b), int(c)), clock, plain[found.start(10) :])


def _hours(hour: int, half: str) -> int:
    if not half or hour > 12:
        return hour
    if NOON.match(half):
        return 12 if hour in (11, 12) else hour + 12
    return hour % 12 + (12 if LATE.match(half) else 0)


def _order(source: Source) -> str:
    """Which of the three numbers of a date is which.

    Raises:
        InputError: The whole file fits day first and month first alike.
    """
    starts = map(_start, _lines(source))
    orders = possible_orders(one.date for one in starts if one)
    if len(orders) == 1:
        return orders[0]
    if not orders:
        raise InputError(
            f"{source.shown}: its dates fit neither day nor month first.",
            "Name --dates dmy or mdy.",
        )
    problem = f"{source.shown}: whether the day or the month comes first cannot be told from it."
    raise InputError(problem, "Say it with --dates dmy or --dates mdy.")


def _chat(source: Source) -> str:
    stem = source.name.removesuffix(".txt").removesuffix(".TXT")
    if stem == "_chat" and source.member:  # iOS: the zip file has the name
        stem = source.path.stem
    return (
        re.sub(
            r"^WhatsApp[ -]?(?:Chat|Chatverlauf|Conversación)?[ -]*(?:with|mit|con|avec)?\s*-?\s*",
            "",
            stem,
        )
        or stem
    )
