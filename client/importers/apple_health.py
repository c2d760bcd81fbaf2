"""Apple Health's export: `export.xml`, alone or in the zip file, of any size.

The elements wanted are found one by one in the stream: the files' DTD is broken, some have control
characters or lack their end, and none of that may cost the measurements before or after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from html import unescape

from client.importers.importer import Importer, Skipped, Wishes, made
from client.importers.source import Source
from client.importers.times import from_iso
from common.records.records import Measurement, Record

CHUNK = 1 << 20
MOST_ELEMENT = 1 << 20  # characters of one element; a longer one is damaged
ELEMENT = re.compile(rb'<(Record|Workout)\s((?:[^"<>]|"[^"]*")*)/?>')
ATTRIBUTE = re.compile(rb'([A-Za-z_][\w .-]*?)\s*=\s*"([^"]*)"')
BEGINS = re.compile(rb"<(?:Record|Workout)\s")
KINDS = re.compile(
    r"^HK(?:Quantity|Category|Data)TypeIdentifier|^HKWorkoutActivityType|^HKCategoryValue"
)
STAGES = re.compile(r"^HKCategoryValue(?:SleepAnalysis)?")


class AppleHealth(Importer):
    """Measurements, sleep and workouts of Apple Health."""

    name, title = "apple-health", "Apple Health export"

    def knows(self, source: Source) -> bool:
        """XML with `HealthData` near its beginning."""
        return b"<HealthData" in source.head and source.head.lstrip(
            b"\xef\xbb\xbf \r\n\t"
        ).startswith(b"<")

    def read(self, source: Source, wishes: Wishes) -> Iterator[Record | Skipped]:  # noqa: ARG002
        """Record by record, in the file's order."""
        number = 0
        for name, attributes in _elements(source):
            number += 1
            where = f"element {number}"
            if attributes is None:
                yield Skipped(where, "is damaged")
                continue
            yield (_workout if name == "Workout" else _record)(attributes, where)


def _elements(source: Source) -> Iterator[tuple[str, dict[str, str] | None]]:
    """Name and attributes of each element wanted; None where it is damaged."""
    with source.open() as stream:
        rest = b""
        while chunk := stream.read(CHUNK):
            rest += chunk
            done = 0
            while begun := BEGINS.search(rest, done):
                whole = ELEMENT.match(rest, begun.start())
                if whole is None:
                    following = BEGINS.search(rest, begun.end())
                    if following is None and len(rest) - begun.start() < MOST_ELEMENT:
                        done = begun.start()
                        break
                    yield "Record", None
                    done = following.start() if following else len(rest)
                    continue
                yield whole[1].decode(), _attributes(whole[2])
                done = whole.end()
            else:
                done = max(done, len(rest) - len(b"<Workout "))
            rest = rest[done:]
        if BEGINS.search(rest):
            yield "Record", None


def _attributes(raw: bytes) -> dict[str, str]:
    return {
        key.decode("utf-8", "replace"): unescape(value.decode("utf-8", "replace"))
        for key, value in ATTRIBUTE.findall(raw)
    }


def _record(found: dict[str, str], where: str) -> Record | Skipped:
    kind, at = KINDS.sub("", found.get("type", "")), from_iso(found.get("startDate"))
    if not kind or at is None:
        return Skipped(where, "has no type or no time")
    value, unit = found.get("value", ""), found.get("unit", "")
    try:
        number = float(value)
    except ValueError:
        return _lasting(found, kind, where)
    return made(where, Measurement, name=kind, value=number, unit=unit, at=at)


def _lasting(found: dict[str, str], kind: str, where: str) -> Record | Skipped:
    """Of a category, such as a stage of sleep, how long it lasted."""
    hours, stage = _hours(found), STAGES.sub("", found.get("value", ""))
    if hours is None:
        return Skipped(where, "its value is no number and it has no duration")
    at = from_iso(found.get("startDate"))
    return made(where, Measurement, name=f"{kind} {stage}".strip(), value=hours, unit="h", at=at)


def _workout(found: dict[str, str], where: str) -> Record | Skipped:
    kind, at = KINDS.sub("", found.get("workoutActivityType", "")), from_iso(found.get("startDate"))
    try:
        minutes, unit = float(found.get("duration", "")), found.get("durationUnit", "min")
    except ValueError:
        hours = _hours(found)
        if hours is None:
            return Skipped(where, "a workout without a duration")
        minutes, unit = 60 * hours, "min"
    if at is None:
        return Skipped(where, "a workout without a time")
    name = f"Workout {kind}".strip()
    return made(where, Measurement, name=name, value=minutes, unit=unit, at=at)


def _hours(found: dict[str, str]) -> float | None:
    begin, end = from_iso(found.get("startDate")), from_iso(found.get("endDate"))
    if begin is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds() / 3600
