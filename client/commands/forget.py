"""`privity-client forget`: records go, and everything that was made of them."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from client.vault.home import open_vault
from common.console.say import say
from common.errors import InputError

if TYPE_CHECKING:
    from client.learning.forgetting import Wanted
    from client.vault.vault import Vault
    from common.records.records import Record

SHOWN, SHOWN_CHARACTERS = 5, 70


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "forget", help="remove records and all that was made of them, and learn anew without them"
    )
    parser.add_argument("query", nargs="?", default="", metavar="WORDS", help="that stand in them")
    parser.add_argument(
        "--item", type=int, action="append", default=[], metavar="N", help="a record by its number"
    )
    parser.add_argument("--source", default="", metavar="FILE", help="what came from this file")
    parser.add_argument("--person", default="", metavar="NAME", help="a whole conversation")
    parser.add_argument("--since", default="", metavar="DATE", help="from this day on")
    parser.add_argument("--all", action="store_true", help="everything")
    parser.add_argument("--yes", action="store_true", help="without being asked")
    parser.add_argument("--no-train", action="store_true", help="do not learn anew")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Show what will go, ask, and let it go.

    Raises:
        InputError: Nothing was said, or nothing fits, or nobody can be asked.
    """
    from client.learning import forgetting
    from client.learning.adapters import PERSONAL

    wanted = _wanted(options)
    with open_vault(options, exclusive=True) as vault:
        going = list(forgetting.found(vault, wanted))
        if not going:
            raise InputError("No record fits.", "`privity-client status` counts what there is.")
        _show(going)
        if not options.yes and not _agreed():
            say("Nothing was removed.")
            return 0
        learnt = bool(vault.store.keys(PERSONAL))
        forgetting.forget(vault, [item for item, _, _ in going])
        say(f"{len(going):,} records are gone, and every personal adapter that learnt from them.")
        _say_what_stays(vault)
    if learnt and not options.no_train:
        return _learn_anew(options)
    return 0


def _wanted(options: argparse.Namespace) -> Wanted:
    from client.importers.times import from_iso
    from client.learning.forgetting import Wanted

    since = from_iso(options.since) if options.since else ""
    if since is None:
        problem = f"--since {options.since!r} is no date."
        raise InputError(problem, "Give for example 2026-01-31.")
    wanted = Wanted(options.query, options.source, options.person, since, options.item, options.all)
    if wanted.nothing:
        hint = "Give words, --item, --source, --person, --since or --all."
        raise InputError("What shall be forgotten was not said.", hint)
    return wanted


def _show(going: list[tuple[int, Record, str]]) -> None:
    """For the person's own eyes: how many of what, and the first of them."""
    from common.visible import visible

    kinds = Counter(record.kind for _, record, _ in going)
    say(f"{len(going):,} records: {', '.join(f'{n:,} {kind}' for kind, n in kinds.most_common())}.")
    for item, record, source in going[:SHOWN]:
        text = " · ".join(str(value) for value in record.values.values())
        say(f"{item:8}  {visible(' '.join(text.split())[:SHOWN_CHARACTERS])}  ({visible(source)})")
    if len(going) > SHOWN:
        say(f"          and {len(going) - SHOWN:,} more")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        problem = "Nobody can be asked whether these shall go."
        raise InputError(problem, "Give --yes.")
    sys.stderr.write("Shall they go, for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say_what_stays(vault: Vault) -> None:
    """What no device can take back."""
    trainings = len(vault.store.ledger.trainings())
    if trainings:
        say(
            f"Updates of {trainings} rounds were contributed already and cannot be recalled; what "
            "they can tell of a record is what `privity-client uploads` says."
        )


def _learn_anew(options: argparse.Namespace) -> int:
    from client.commands import train

    options.model, options.history, options.rollback = "", False, False
    try:
        return train.run(options)
    except InputError as error:
        say(f"Nothing is learnt anew: {error.message}")
        return 0
