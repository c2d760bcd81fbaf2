"""Bank statements as OFX: version 1 (SGML, tags without an end) and version 2 (XML)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from client.importers.amounts import number
from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.source import Source
from client.importers.times import from_iso
from common.records.records import Record, Transaction

CHUNK = 1 << 20
TAG = re.compile(r"<(STMTTRN|/STMTTRN|[A-Z0-9.]+)>([^<\r\n]*)", re.IGNORECASE)
WANTED = ("TRNAMT", "DTPOSTED", "DTUSER", "NAME", "PAYEE", "MEMO", "CURSYM")
DATE = re.compile(
    r"^(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2})?)?(?:\.\d+)?(?:\[([+-]?\d+(?:\.\d+)?)[^\]]*\])?"
)


class Ofx(Importer):
    """Transactions of an account."""

    name, title = "ofx", "bank statement (OFX)"

    def knows(self, source: Source) -> bool:
        """OFX's header or outermost tag."""
        begins = source.head_text.lstrip()[:4096].upper()
        return begins.startswith("OFXHEADER") or "<OFX>" in begins

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:
        """Transaction by transaction."""
        money, found, count = wishes.currency, dict[str, str](), 0
        inside = False
        for name, value in _tags(source):
            if name == "CURDEF" and not wishes.currency:
                money = value
            elif name in ("STMTTRN", "/STMTTRN", "/BANKTRANLIST", "/OFX"):
                if inside and found:
                    count += 1
                    yield _transaction(found, money, f"transaction {count}")
                inside, found = name == "STMTTRN", {}
            elif inside and name in WANTED and value:
                found.setdefault(name, value)
        if inside and found:
            yield Skipped(f"transaction {count + 1}", "the file breaks off in it")


def _tags(source: Source) -> Iterator[tuple[str, str]]:
    with source.text() as text:
        rest = ""
        while chunk := text.read(CHUNK):
            rest += chunk
            last = rest.rfind("<")
            for tag in TAG.finditer(rest[:last]):
                yield tag[1].upper(), unescape(tag[2].strip())
            rest = rest[last:] if last >= 0 else ""
        for tag in TAG.finditer(rest):
            yield tag[1].upper(), unescape(tag[2].strip())


def _transaction(found: dict[str, str], money: str, where: str) -> Record | Skipped:
    amount = number(found.get("TRNAMT", ""), "," if "," in found.get("TRNAMT", "") else ".")
    at = _time(found.get("DTPOSTED") or found.get("DTUSER") or "")
    payee = found.get("NAME") or found.get("PAYEE") or found.get("MEMO")
    money = found.get("CURSYM") or money
    missing = next(
        (
            w
            for w, v in (("amount", amount), ("date", at), ("payee", payee), ("currency", money))
            if v in (None, "")
        ),
        "",
    )
    if missing or amount is None or not payee:
        return Skipped(where, f"it has no {missing}")
    return made(where, Transaction, amount=amount, currency=money, payee=payee, at=at)


def _time(text: str) -> str | None:
    found = DATE.match(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, zone = found.groups()
    spelled = f"{year}-{month}-{day}T{hour or '00'}:{minute or '00'}:{second or '00'}"
    if zone:
        hours = float(zone)
        spelled += (
            f"{'-' if hours < 0 else '+'}{int(abs(hours)):02}:{round(abs(hours) % 1 * 60):02}"
        )
    return from_iso(spelled if zone else f"{spelled}+00:00")
