"""Bank statements as QIF: a letter and its value a line, `^` after each transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator

from client.importers.amounts import decimal_of, number
from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.source import Source
from client.importers.times import from_parts, possible_orders
from common.errors import InputError
from common.records.records import Record, Transaction

ACCOUNTS = ("!type:bank", "!type:cash", "!type:ccard", "!type:oth a", "!type:oth l")
DATE = re.compile(r"^\s*(\d{1,4})[/.\-](\s?\d{1,2})[/.\-']\s?(\d{1,4})")


class Qif(Importer):
    """Transactions of an account."""

    name, title = "qif", "bank statement (QIF)"

    def knows(self, source: Source) -> bool:
        """QIF's first line."""
        return source.head_text.lstrip().lower().startswith(("!type:", "!account", "!option:"))

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:
        """Transaction by transaction.

        Raises:
            InputError: The currency, or the order of its dates, is not said.
        """
        if not wishes.currency:
            problem = f"{source.shown}: a QIF file does not say its currency."
            raise InputError(problem, "Say it with --currency EUR or the like.")
        every = list(_dates(source))
        order = wishes.dates or _order(source, every)
        decimal = decimal_of(found.get("T", "") for _, found in _entries(source))
        for line, found in _entries(source):
            yield _transaction(found, order, decimal, wishes.currency, f"line {line}")


def _entries(source: Source) -> Iterator[tuple[int, dict[str, str]]]:
    with source.text() as text:
        found: dict[str, str] = {}
        wanted, first = True, 1
        for number_, line in enumerate(text, start=1):
            plain = line.strip()
            if plain.startswith("!"):
                wanted, found = plain.lower().startswith(ACCOUNTS), {}
            elif plain.startswith("^"):
                if wanted and found:
                    yield first, found
                found = {}
            elif plain and wanted:
                if not found:
                    first = number_
                found.setdefault(plain[0].upper(), plain[1:].strip())
        if wanted and found:
            yield first, found


def _dates(source: Source) -> Iterator[tuple[int, int, int]]:
    for _, found in _entries(source):
        if date := DATE.match(found.get("D", "")):
            yield int(date[1]), int(date[2]), int(date[3])


def _order(source: Source, dates: list[tuple[int, int, int]]) -> str:
    orders = possible_orders(dates) or possible_orders(dates[::-1])
    if len(orders) != 1 and dates:
        problem = (
            f"{source.shown}: whether the day or the month comes first cannot be told from it."
        )
        raise InputError(problem, "Say it with --dates dmy or --dates mdy.")
    return orders[0] if orders else "dmy"


def _transaction(
    found: dict[str, str], order: str, decimal: str, money: str, where: str
) -> Record | Skipped:
    date, amount = (
        DATE.match(found.get("D", "")),
        number(found.get("T", found.get("U", "")), decimal),
    )
    payee, category = found.get("P") or found.get("M"), found.get("L")
    at = from_parts((int(date[1]), int(date[2]), int(date[3])), order) if date else None
    if amount is None or at is None or not payee:
        return Skipped(where, "it lacks a date, an amount or a payee that can be read")
    return made(
        where,
        Transaction,
        amount=amount,
        currency=money,
        payee=payee,
        category=category or None,
        at=at,
    )
