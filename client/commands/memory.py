"""`privity-client memory`: what the vault's records say, found again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from client.vault.home import open_vault
from common.console.say import say

if TYPE_CHECKING:
    from client.memory.index import Item
    from client.memory.memory import Hit, Memory
    from client.vault.vault import Vault

SHOWN_RESULTS, SHOWN_ITEMS, SHOWN_CHARACTERS = 10, 20, 200
MARKS = {
    "pin": ("let an item come first whenever it fits", "pinned", True, "comes first now"),
    "unpin": ("let it come where it fits again", "pinned", False, "comes where it fits again"),
    "off": ("keep an item and find it no more", "off", True, "is kept and not found any more"),
    "on": ("find it again", "off", False, "is found again"),
}


def add(commands: Any) -> None:
    """Declare the command and those below it."""
    parser = commands.add_parser("memory", help="search what your records say, and see to it")
    below = commands.below(parser)
    find = below.add_parser("search", help="find what fits, by words, by meaning and by time")
    find.add_argument("query", metavar="QUERY", help="a question or some words")
    _add_limit(find, SHOWN_RESULTS, "results")
    find.add_argument("--json", action="store_true", help="one JSON list on stdout")
    find.set_defaults(action=search)
    listing = below.add_parser("list", help="list the newest items")
    which = listing.add_mutually_exclusive_group()
    which.add_argument(
        "--pinned", dest="mark", action="store_const", const="pinned", help="those alone"
    )
    which.add_argument("--off", dest="mark", action="store_const", const="off", help="those alone")
    _add_limit(listing, SHOWN_ITEMS, "items")
    listing.set_defaults(action=list_items, mark="")
    show = below.add_parser("show", help="show an item whole, and where it came from")
    _add_number(show)
    show.set_defaults(action=show_item)
    for name, (meaning, *_) in MARKS.items():
        mark = below.add_parser(name, help=meaning)
        _add_number(mark)
        mark.set_defaults(action=mark_item, does=name)
    gone = below.add_parser("forget", help="as `privity-client forget --item ID`")
    _add_number(gone)
    gone.add_argument("--yes", action="store_true", help="without being asked")
    gone.add_argument("--no-train", action="store_true", help="do not learn anew")
    gone.set_defaults(action=forget_item)


def _add_limit(parser: argparse.ArgumentParser, default: int, what: str) -> None:
    parser.add_argument(
        "--limit", type=int, default=default, metavar="N",
        help=f"at most so many {what} (default: {default})",
    )  # fmt: skip


def _add_number(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("item", type=int, metavar="ID", help="the item's number")


def search(options: argparse.Namespace) -> int:
    """Index what is new, then search."""
    with open_vault(options) as vault:
        hits = _refreshed(vault).search(options.query, options.limit)
    if options.json:
        from common.system import strict_json

        say(strict_json.encode([_as_json(hit) for hit in hits]))
    elif not hits:
        say("Nothing that is remembered fits.")
    else:
        for hit in hits:
            say(_line(hit.item))
    return 0


def list_items(options: argparse.Namespace) -> int:
    """Index the words of what is new, then list."""
    with open_vault(options) as vault:
        memory = _with_words(vault)
        items, count = memory.list(options.limit, options.mark), memory.index.count()
    for item in items:
        say(_line(item))
    say(f"{len(items):,} of {count:,} items.")
    return 0


def show_item(options: argparse.Namespace) -> int:
    """Show an item whole.

    Raises:
        InputError: There is none of this number.
    """
    from common.visible import visible

    with open_vault(options) as vault:
        item = _with_words(vault).show(options.item)
    for name, value in _provenance(item):
        say(f"{name:13} {visible(value)}")
    for line in item.text.splitlines():
        say(f"    {visible(line)}")
    return 0


def mark_item(options: argparse.Namespace) -> int:
    """Pin an item or take it out of what is found, or undo that.

    Raises:
        InputError: There is none of this number.
    """
    _, mark, value, told = MARKS[options.does]
    with open_vault(options) as vault:
        memory = _with_words(vault)
        (memory.pin if mark == "pinned" else memory.off)(options.item, value)
    say(f"Item {options.item} {told}.")
    return 0


def forget_item(options: argparse.Namespace) -> int:
    """Remove an item's record and all that was made of it.

    Raises:
        InputError: There is none of this number, or nobody can be asked.
    """
    from client.commands import forget

    options.item = [options.item]
    options.query = options.source = options.person = options.since = ""
    options.all = False
    return forget.run(options)


def _refreshed(vault: Vault) -> Memory:
    """Memory with all there is, and a bar while that takes long."""
    from client.learning.progress import bar
    from client.memory.memory import Memory

    memory = Memory(vault.database)
    if total := memory.stale():
        with bar("Remembering", total) as advance:

            def step(done: int) -> None:
                for _ in range(done):
                    advance()

            memory.refresh(step)
    return memory


def _with_words(vault: Vault) -> Memory:
    """Memory with all items; a model is needed for none of what is asked here."""
    from client.memory.memory import Memory

    memory = Memory(vault.database)
    for _ in memory.index.add_words():
        pass
    return memory


def _as_json(hit: Hit) -> dict[str, Any]:
    item = hit.item
    return {
        "id": item.id,
        "text": item.text,
        "source": item.source,
        "at": item.at,
        "score": round(hit.score, 4),
    }


def _line(item: Item) -> str:
    from common.visible import visible

    text = " ".join(item.text.split())
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
    when = item.at[:10] if item.at else "no time"
    marks = " (pinned)" * item.pinned + " (off)" * item.off
    return f"{item.id:8}  {when:10}  {visible(cut)}  ({visible(item.source)}){marks}"


def _provenance(item: Item) -> list[tuple[str, str]]:
    lines = [
        ("item", str(item.id)),
        ("kind", item.kind),
        ("from", item.source),
        ("when", item.at or "not known"),
        ("author", item.author),
        ("conversation", item.conversation),
        ("state", " and ".join(["pinned"] * item.pinned + ["off"] * item.off)),
    ]
    return [(name, value) for name, value in lines if value]
