"""Tables as CSV: ratings, measurements, transactions, questions with answers, labelled texts.

What a column is, its heading says, in a few languages; `--column KEY=HEADING` says it otherwise.
The separator, the encoding, and whether the decimal sign is a comma are told from the file.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from client.importers.amounts import currency, decimal_of, number
from client.importers.importer import Importer, Skipped, Wishes
from client.importers.source import Source
from client.importers.times import from_epoch, from_iso, from_parts, possible_orders
from common.errors import InputError
from common.records.records import KINDS, Record, keys_of, record_of

SEPARATORS = ",;\t|"
SAMPLE_ROWS = 2000
LONGEST = 10_000_000  # characters of one cell
DATE = re.compile(r"^(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?")
NUMBERS = {"value", "amount"}
# What headings mean, in the order in which kinds are tried: a kind needs all of its keys.
MEANINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "transaction": {
        "amount": ("amount", "betrag", "umsatz", "montant", "importe", "importo", "sum"),
        "payee": (
            "payee", "description", "merchant", "counterparty", "beguenstigter", "empfaenger",
            "auftraggeber", "libelle", "concepto", "descrizione", "name", "verwendungszweck",
        ),
        "at": ("date", "bookingdate", "buchungstag", "datum", "fecha", "data", "time", "at"),
        "currency": ("currency", "waehrung", "devise", "moneda", "valuta"),
        "category": ("category", "kategorie", "categorie", "categoria"),
    },
    "rating": {
        "value": ("rating", "stars", "score", "yourrating", "myrating", "bewertung", "value"),
        "title": ("title", "name", "movie", "book", "film", "product", "titel", "titre", "titulo"),
        "item": ("item", "id", "itemid", "movieid", "bookid", "isbn", "asin", "const", "url"),
        "text": ("review", "text", "comment", "myreview", "rezension"),
        "at": ("timestamp", "date", "daterated", "dateread", "datum", "at"),
    },
    "measurement": {
        "value": ("value", "measurement", "wert", "reading", "result"),
        "name": ("name", "type", "metric", "quantity", "measure", "messgroesse"),
        "unit": ("unit", "units", "einheit"),
        "at": ("date", "time", "timestamp", "at", "datum"),
    },
    "answer": {
        "question": ("question", "frage", "prompt", "pregunta", "domanda"),
        "answer": ("answer", "antwort", "response", "reply", "respuesta", "risposta"),
    },
    "example": {
        "text": ("text", "sentence", "query", "utterance"),
        "label": ("label", "category", "intent", "class", "klasse"),
    },
}  # fmt: skip
NEEDED = {
    "transaction": ("amount", "payee", "at"), "rating": ("value", "title"),
    "measurement": ("value", "name", "unit"), "answer": ("question", "answer"),
    "example": ("text", "label"),
}  # fmt: skip
FOLDED = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "é": "e", "è": "e", "ó": "o", "í": "i", "ú": "u"}
)


class CsvTable(Importer):
    """A table, each row of which is a record."""

    name, title = "csv", "table (CSV)"

    def knows(self, source: Source) -> bool:
        """Rows of as many cells as there are headings, whose words say what they are."""
        try:
            rows = _head(source)
        except (csv.Error, InputError):
            return False
        return len(rows) > 1 and bool(_kinds(rows[0]))

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:
        """Row by row.

        Raises:
            InputError: What the columns are, their currency, or the order of their dates is not
                said.
        """
        csv.field_size_limit(min(sys.maxsize, LONGEST))
        rows = _head(source)
        if not rows:
            return
        kind, columns = _mapping(source, rows[0], wishes)
        taken = {key: [r[i] for r in rows[1:] if i < len(r)] for key, i in columns.items()}
        semicolons = _dialect(source) == ";"
        decimals = {k: decimal_of(taken[k], semicolons=semicolons) for k in columns if k in NUMBERS}
        order = _order(source, taken.get("at", []), wishes)
        money = wishes.currency or currency(
            rows[0][columns["amount"]] if "amount" in columns else ""
        )
        with source.text() as text:
            table = csv.reader(text, delimiter=_dialect(source))
            for number_, row in enumerate(_rows(table), start=1):
                if number_ == 1 or not any(cell.strip() for cell in row):
                    continue
                cells = {k: row[i].strip() for k, i in columns.items() if i < len(row)}
                yield _record(kind, cells, decimals, order, money, f"row {number_}")


def _rows(table: Any) -> Iterator[list[str]]:
    while True:
        try:
            yield next(table)
        except StopIteration:
            return
        except csv.Error:
            yield []


def _dialect(source: Source) -> str:
    first = next((one for one in source.head_text.splitlines() if one.strip()), "")
    return max(SEPARATORS, key=lambda sign: (first.count(sign), -SEPARATORS.index(sign)))


def _head(source: Source) -> list[list[str]]:
    with source.text() as text:
        return [
            row
            for row in islice(_rows(csv.reader(text, delimiter=_dialect(source))), SAMPLE_ROWS)
            if row
        ]


def _folded(heading: str) -> str:
    return re.sub(r"\(.*?\)|\W|_", "", heading.removeprefix("\ufeff").lower().translate(FOLDED))


def _kinds(headings: Sequence[str]) -> dict[str, dict[str, int]]:
    """For each kind that the headings suffice for: the column of each key; the best fit first."""
    words = [_folded(one) for one in headings]
    found: dict[str, dict[str, int]] = {}
    for kind, meanings in MEANINGS.items():
        columns: dict[str, int] = {}
        for key, names in meanings.items():
            free = [
                (names.index(w), i)
                for i, w in enumerate(words)
                if w in names and i not in columns.values()
            ]
            if free:
                columns[key] = min(free)[1]
        if all(key in columns for key in NEEDED[kind]):
            found[kind] = columns
    return dict(sorted(found.items(), key=lambda one: -len(one[1])))


def _mapping(source: Source, headings: Sequence[str], wishes: Wishes) -> tuple[str, dict[str, int]]:
    known = _kinds(headings)
    kind = wishes.kind or next(iter(known), "")
    if kind and kind not in MEANINGS:
        problem = f"--kind {kind!r}: a table holds no such records."
        raise InputError(problem, f"Choose one of: {', '.join(MEANINGS)}.")
    columns = dict(known.get(kind, {}))
    for key, heading in wishes.columns.items():
        if heading not in headings:
            problem = f"{source.shown} has no column {heading!r}."
            raise InputError(problem, f"It has: {', '.join(headings)[:300]}.")
        columns[key] = headings.index(heading)
    missing = [key for key in NEEDED.get(kind, ()) if key not in columns]
    if not kind or missing:
        problem = f"{source.shown}: its headings do not say what the columns are."
        hint = "Give --kind rating, measurement, transaction, answer or example, and --column"
        raise InputError(problem, f"{hint} {(missing or ['value'])[0]}=HEADING for each key.")
    return kind, columns


def _order(source: Source, dates: Sequence[str], wishes: Wishes) -> str:
    found = [DATE.match(one.strip()) for one in dates if from_iso(one.strip()) is None]
    numbers = [(int(one[1]), int(one[2]), int(one[3])) for one in found if one]
    if wishes.dates or not numbers:
        return wishes.dates or "ymd"
    orders = possible_orders(numbers) or possible_orders(numbers[::-1])
    if "." in dates[0] and "dmy" in orders:  # nobody writes the month first with points
        return "dmy"
    if len(orders) != 1:
        problem = (
            f"{source.shown}: whether the day or the month comes first cannot be told from it."
        )
        raise InputError(problem, "Say it with --dates dmy or --dates mdy.")
    return orders[0]


def _record(
    kind: str,
    cells: Mapping[str, str],
    decimals: Mapping[str, str],
    order: str,
    money: str,
    where: str,
) -> Record | Skipped:
    values: dict[str, Any] = {key: cell for key, cell in cells.items() if cell and key != "at"}
    for key, decimal in decimals.items():
        amount = number(cells.get(key, ""), decimal)
        if amount is None:
            return Skipped(where, f"its {key} is no number")
        values[key] = amount
    if kind == "transaction":
        values["currency"] = values.get("currency") or currency(cells.get("amount", "")) or money
        if not values["currency"]:
            raise InputError(
                "The table does not say its currency.", "Say it with --currency EUR or the like."
            )
    if kind == "rating":
        values.setdefault("item", values.get("title"))
    at = _time(cells.get("at", ""), order)
    if cells.get("at") and at is None:
        return Skipped(where, "its date cannot be read")
    own = set(keys_of(KINDS[kind])) & values.keys()
    try:
        return record_of(kind, {key: values[key] for key in own}, at)
    except InputError as error:
        return Skipped(where, error.message)


def _time(cell: str, order: str) -> str | None:
    if not cell:
        return None
    if re.fullmatch(r"\d{9,10}(?:\.\d+)?", cell):
        return from_epoch(cell)
    if (found := from_iso(cell)) is not None:
        return found
    parts = DATE.match(cell)
    if parts is None:
        return None
    clock = [int(one or 0) for one in parts.groups()[3:]]
    return from_parts((int(parts[1]), int(parts[2]), int(parts[3])), order, *clock)
