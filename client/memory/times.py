"""Which span of time a question names: "in May 2023", "last week", "yesterday", "2023-05-07".

English, and by rules. Where nothing is named, or something that is not certain ("in May": whose?
the last one before now), the order of what is found changes little: time adds to a score, it
excludes nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

Span = tuple[datetime, datetime]

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}  # first month, north
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
UNIT_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}

_MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS)
_YEAR = r"(?:19|20)\d\d"
_ISO = re.compile(rf"\b({_YEAR})-(\d\d)(?:-(\d\d))?\b")
_DAY_FIRST = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({_MONTH})\b\.?,?\s*({_YEAR})?"
)
_MONTH_FIRST = re.compile(
    rf"\b({_MONTH})\b\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s*({_YEAR})\b)?"
)
_MONTH_ALONE = re.compile(
    rf"\b(?:(in|last|this|early|late|mid|of|since|during)[\s-]+)?({_MONTH})\b\.?,?(?:\s+({_YEAR})\b)?"
)
_YEAR_ALONE = re.compile(rf"\b({_YEAR})\b")
_AGO = re.compile(r"\b(\d+|" + "|".join(NUMBERS) + r")\s+(day|week|month|year)s?\s+ago\b")
_LAST = re.compile(
    r"\b(last|this)\s+(week|month|year|weekend|" + "|".join((*SEASONS, *DAYS)) + r")\b"
)


def named_span(question: str, now: datetime) -> Span | None:
    """First and last moment of the time that a question names, in UTC; None where it names none.

    Args:
        now: What "yesterday" is reckoned from.
    """
    text = question.casefold()
    for reader in (_dates, _months, _relative, _years):
        try:
            if found := reader(text, now.astimezone(UTC)):
                return found
        except (ValueError, OverflowError):  # the 31st of June, a million years ago
            continue
    return None


def _dates(text: str, now: datetime) -> Span | None:
    if found := _ISO.search(text):
        numbers = [int(part or 0) for part in found.groups()]
        return _day(*numbers) if numbers[2] else _months_from(numbers[0], numbers[1], 1)
    if found := _DAY_FIRST.search(text):
        day, name, year = found.groups()
    elif found := _MONTH_FIRST.search(text):
        name, day, year = found.groups()
    else:
        return None
    month = _number(name)
    return _day(int(year) if year else _latest_year(month, now), month, int(day))


def _months(text: str, now: datetime) -> Span | None:
    """A month with its year, or after a word such as "in": May and June are other words as well."""
    for before, name, year in _MONTH_ALONE.findall(text):
        if before or year:
            month = _number(name)
            known = int(year) if year else _latest_year(month, now)
            return _months_from(known - (before == "last" and month == now.month), month, 1)
    return None


def _relative(text: str, now: datetime) -> Span | None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for word, back in (("yesterday", 1), ("today", 0), ("last night", 1), ("tonight", 0)):
        if re.search(rf"\b{word}\b", text):
            return _days(today - timedelta(days=back), 1)
    if found := _AGO.search(text):
        count = NUMBERS.get(found[1]) or int(found[1])
        days = UNIT_DAYS[found[2]]
        return _days(today - timedelta(days=count * days + days // 2), max(days, 1))
    if found := _LAST.search(text):
        return _last(found[2], found[1] == "last", today)
    return None


def _last(unit: str, last: bool, today: datetime) -> Span | None:
    monday = today - timedelta(days=today.weekday())
    if unit == "week":
        return _days(monday - timedelta(days=7 * last), 7)
    if unit == "weekend":
        return _days(monday - timedelta(days=2), 2) if last else _days(monday + timedelta(5), 2)
    if unit == "month":
        month = today.month - last
        return _months_from(today.year - (month < 1), (month - 1) % 12 + 1, 1)
    if unit == "year":
        return _months_from(today.year - last, 1, 12)
    if unit in DAYS:
        back = (today.weekday() - DAYS.index(unit)) % 7
        return _days(today - timedelta(days=back or 7 * last), 1)
    first = SEASONS[unit]
    year = today.year - (first > today.month or (last and first + 3 > today.month))
    return _months_from(year, first, 3)


def _years(text: str, _now: datetime) -> Span | None:
    found = _YEAR_ALONE.search(text)
    return _months_from(int(found[1]), 1, 12) if found else None


def _number(name: str) -> int:
    return next(n for n, month in enumerate(MONTHS, start=1) if month.startswith(name))


def _latest_year(month: int, now: datetime) -> int:
    """Of the last such month that has begun."""
    return now.year - (month > now.month)


def _day(year: int, month: int, day: int) -> Span:
    return _days(datetime(year, month, day, tzinfo=UTC), 1)


def _days(first: datetime, count: int) -> Span:
    return first, first + timedelta(days=count)


def _months_from(year: int, month: int, count: int) -> Span:
    after = month - 1 + count
    return (
        datetime(year, month, 1, tzinfo=UTC),
        datetime(year + after // 12, after % 12 + 1, 1, tzinfo=UTC),
    )
