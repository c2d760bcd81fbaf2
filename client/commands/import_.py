"""`privity-client import`: bring what you have into the vault."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.vault.home import open_vault
from common.console.say import say
from common.errors import InputError

if TYPE_CHECKING:
    from client.importers.importer import Importer, Skipped, Wishes
    from client.importers.source import Source
    from client.vault.vault import Vault
    from common.records.records import Record

SHOWN_SKIPPED, SAMPLES, SAMPLE_CHARACTERS = 10, 3, 60
FORMATS = (
    "chatgpt", "claude", "telegram", "whatsapp", "messages", "apple-health", "csv", "ofx", "qif",
    "notes", "conll", "records",
)  # fmt: skip
UNKNOWN = {"where": "", "reason": "no format that is known"}
EVERY = 200  # records between two looks at the bar


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "import", help="bring what you have into the vault: chats, tables, notes, measurements"
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", type=Path,
        help="files, folders, patterns or zip files; what they are, their content says",
    )  # fmt: skip
    parser.add_argument(
        "--as", dest="format", metavar="FORMAT", help=f"one of {', '.join(FORMATS)}"
    )
    parser.add_argument("--me", default="", metavar="NAME", help="your name in the files' chats")
    parser.add_argument(
        "--dates",
        choices=("dmy", "mdy"),
        default="",
        help="day or month first, where nothing tells",
    )
    parser.add_argument(
        "--currency", default="", metavar="CODE", help="of amounts without one, such as EUR"
    )
    parser.add_argument("--kind", default="", metavar="KIND", help="what a table's rows are")
    parser.add_argument(
        "--column", action="append", default=[], metavar="KEY=HEADING",
        help="which column of a table is what, such as value=Rating",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would come in, samples without letters"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Import file by file; each is in the vault with all that could be read of it, or not at all.

    Returns:
        2 where nothing could be read of a file that was named, else 0.
    """
    from client.importers.source import Refused, sources

    forced, wishes = _forced(options.format), _wishes(options)
    found: list[dict[str, Any]] = []
    with open_vault(options) as vault:
        for source in sources(options.paths):
            if isinstance(source, Refused):
                found.append(_entry(source.shown, None, 0, 0, [("", source.reason)]))
                _tell(options, found[-1], "")
            else:
                entry, wishes = _file(vault, forced, source, wishes, options)
                found.append(entry)
    unknown = sum(one["skipped"] == [UNKNOWN] for one in found)
    if options.json:
        from common.system import strict_json

        say(strict_json.encode({"files": found}))
    elif unknown:
        say(f"{unknown} more files have no format that is known, and were passed over.")
    return 2 if any(not one["records"] and one["skipped"] and one["format"] for one in found) else 0


def _file(
    vault: Vault,
    forced: Importer | None,
    source: Source,
    wishes: Wishes,
    options: argparse.Namespace,
) -> tuple[dict[str, Any], Wishes]:
    """One file: what came of it, and the wishes with what was asked for it.

    Raises:
        InputError: It is the only one that was named, and nothing of it can be read.
    """
    importer = forced
    try:
        importer = importer or _importer(source)
        if importer is None:
            _require_known(source, options.paths)
            return _entry(source.shown, None, 0, 0, [("", UNKNOWN["reason"])]), wishes
        wishes = _with_me(importer, source, wishes)
        return _import(vault, importer, source, wishes, options), wishes
    except InputError as error:
        if len(options.paths) == 1 and source.within is None and not source.member:
            raise
        name = importer.name if importer else None
        entry = _entry(source.shown, name, 0, 0, [("", str(error).rstrip("."))])
        _tell(options, entry, "")
        return entry, wishes


def _forced(name: str | None) -> Importer | None:
    from client.importers import IMPORTERS

    if name is None:
        return None
    if name not in IMPORTERS:
        problem = f"--as {name!r} is no format that is known."
        raise InputError(problem, f"Choose one of: {', '.join(IMPORTERS)}.")
    return IMPORTERS[name]


def _wishes(options: argparse.Namespace) -> Wishes:
    from client.importers.importer import Wishes

    columns = {}
    for pair in options.column:
        key, equals, heading = pair.partition("=")
        if not equals or not key or not heading:
            raise InputError(
                f"--column {pair!r} is no KEY=HEADING.", "Give for example value=Rating."
            )
        columns[key] = heading
    return Wishes(options.me, options.dates, options.currency, columns, options.kind)


def _importer(source: Source) -> Importer | None:
    from client.importers import IMPORTERS

    known = (one for one in IMPORTERS.values() if one.knows(source))
    named = (one for one in IMPORTERS.values() if source.name.lower().endswith(one.endings))
    return next(known, None) or next(named, None)


def _require_known(source: Source, named: list[Path]) -> None:
    """Refuse a file that was named itself and whose format nobody knows."""
    if source.within is None and not source.member and source.path in named:
        problem = f"{source.path} has no format that is known."
        raise InputError(problem, "Force one with --as, or see docs/import.md.")


def _with_me(importer: Importer, source: Source, wishes: Wishes) -> Wishes:
    """The wishes with the person's own name in this file, asked for where it is not said.

    Raises:
        InputError: It is not said and nobody can be asked, or nobody of that name wrote anything.
    """
    from dataclasses import replace

    if not importer.needs_me or not (names := importer.names(source)):
        return wishes
    if not wishes.me:
        wishes = replace(wishes, me=_asked(source, names))
    same = [name for name in names if name.strip().casefold() == wishes.me.strip().casefold()]
    if not same:
        _list(names)
        problem = f"Nobody wrote as --me {wishes.me!r} in {source.shown}."
        raise InputError(problem, "Give --me one of the names above.")
    return replace(wishes, me=same[0])


def _asked(source: Source, names: Counter[str]) -> str:
    from common.visible import visible

    _list(names)
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        problem = f"{source.shown} does not say which of its names is yours."
        raise InputError(problem, "Give --me one of the names above.")
    sys.stderr.write(f"Which of these are you in {visible(source.name)}? ")
    sys.stderr.flush()
    given = sys.stdin.readline().strip()
    shown = [name for name, _ in names.most_common()]
    return shown[int(given) - 1] if given.isdigit() and 0 < int(given) <= len(shown) else given


def _list(names: Counter[str]) -> None:
    """For the person's own eyes: stderr is theirs, and no log."""
    from common.console.say import say_aside
    from common.visible import visible

    for number, (name, count) in enumerate(names.most_common(20), start=1):
        say_aside(f"{number:3}  {visible(name)} ({count:,} messages)")


def _import(
    vault: Vault, importer: Importer, source: Source, wishes: Wishes, options: argparse.Namespace
) -> dict[str, Any]:
    from client.importers.importer import Skipped
    from client.learning.progress import meter

    skipped: list[tuple[str, str]] = []
    kinds: Counter[str] = Counter()
    samples: list[str] = []
    with meter(f"Importing {source.name}", source.size) as tell:

        def records() -> Iterator[Record]:
            for count, one in enumerate(_up_to_damage(importer.read(source, wishes))):
                if count % EVERY == 0:
                    tell(source.consumed, count)
                if isinstance(one, Skipped):
                    skipped.append((one.where, one.reason))
                    continue
                kinds[one.kind] += 1
                if options.dry_run and len(samples) < SAMPLES:
                    samples.append(_sample(one))
                yield one

        keep = vault.records.would_add if options.dry_run else vault.records.add
        added = keep(records(), source.name)
    entry = _entry(source.shown, importer.name, added.new + added.known, added.new, skipped)
    _tell(options, entry, importer.title)
    if options.dry_run and not options.json:
        counted = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        say(f"    Nothing was kept. It has: {counted or 'nothing'}.")
        for sample in samples:
            say(f"    {sample}")
    return entry


def _up_to_damage(found: Iterator[Record | Skipped]) -> Iterator[Record | Skipped]:
    """What can be read; where a file ends in damage, that is said and what came before stays."""
    from client.importers.importer import Skipped

    begun = False
    try:
        for one in found:
            yield one
            begun = True
    except InputError as error:
        if not begun:
            raise
        yield Skipped("from there on", str(error).rstrip("."))


def _sample(record: Record) -> str:
    """The shape of a record: letters as x, digits as 9."""
    text = " | ".join(str(value) for value in record.values.values())[:SAMPLE_CHARACTERS]
    masked = "".join("x" if one.isalpha() else "9" if one.isdigit() else one for one in text)
    return f"{record.at or 'no time'}  {record.kind}: {' '.join(masked.split())}"


def _entry(
    shown: str, name: str | None, records: int, new: int, skipped: list[tuple[str, str]]
) -> dict[str, Any]:
    listed = [{"where": where, "reason": reason} for where, reason in skipped]
    return {"path": shown, "format": name, "records": records, "new": new, "skipped": listed}


def _tell(options: argparse.Namespace, entry: dict[str, Any], title: str) -> None:
    from common.visible import visible

    if options.json:
        return
    known, skipped = entry["records"] - entry["new"], entry["skipped"]
    if title:
        counted = f"{entry['new']:,} records are new, {known:,} were there already."
        say(f"{visible(entry['path'])}: {title}. {counted}")
    else:
        say(f"{visible(entry['path'])}: passed over.")
    for one in skipped[:SHOWN_SKIPPED]:
        say(f"    {one['where'] + ': ' if one['where'] else ''}{one['reason']}.")
    if len(skipped) > SHOWN_SKIPPED:
        say(
            f"    and {len(skipped) - SHOWN_SKIPPED:,} more that did not come in; --json lists all."
        )
