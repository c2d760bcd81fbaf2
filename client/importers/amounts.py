"""Numbers as people and banks write them: decimal comma or point, blanks, signs, currencies."""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBER = re.compile(r"^[+-]?\d[\d.,'\u2019 ]*$|^[+-]?[.,]\d+$")
CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "zł": "PLN", "CHF": "CHF"}
CODE = re.compile(r"\b([A-Z]{3})\b")
SPACES = dict.fromkeys(map(ord, "\u00a0\u202f\u2009 '\u2019"))


def decimal_of(texts: Iterable[str], *, semicolons: bool = False) -> str:
    """Which sign is the decimal one in a column: `.` or `,`.

    Args:
        semicolons: Whether the file parts its columns by them, as where the comma is decimal.
    """
    for text in texts:
        plain = text.translate(SPACES)
        comma, point = plain.rfind(","), plain.rfind(".")
        if comma >= 0 and point >= 0:
            return "," if comma > point else "."
        for sign, place in ((",", comma), (".", point)):
            if place >= 0 and len(re.sub(r"\D.*$", "", plain[place + 1 :])) != 3:
                return sign
            if plain.count(sign) > 1:
                return "." if sign == "," else ","
    return "," if semicolons else "."


def number(text: str, decimal: str = ".") -> float | None:
    """The number in a text, with or without a currency; None where there is none."""
    plain = text.strip().replace("\u2212", "-")
    negative = plain.startswith("(") and plain.endswith(")")
    plain = re.sub(r"[^\d.,'\u2019+\-\u00a0\u202f ]", "", plain).translate(SPACES)
    if plain.endswith("-"):
        plain = f"-{plain[:-1]}"
    if not NUMBER.match(plain):
        return None
    plain = plain.replace("." if decimal == "," else ",", "").replace(decimal, ".")
    try:
        found = float(plain)
    except ValueError:
        return None
    return -abs(found) if negative else found


def currency(text: str) -> str:
    """The currency that a text names, as its code; empty where it names none."""
    for sign, code in CURRENCIES.items():
        if sign in text:
            return code
    found = CODE.search(text)
    return found[1] if found else ""
