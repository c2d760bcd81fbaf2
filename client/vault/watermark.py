"""How far a vault's ledger had come, kept outside the vault: so that going back is noticed.

Whoever restores a backup of the vault has a ledger that has forgotten releases. The mark says how
many releases of each kind the ledger held: noise, rate, steps and time, and nothing personal. It is
a small file in the user's state folder and, for a vault whose key is in the OS keyring, an entry
there too. A file is easily deleted, and neither goes along to another machine: this is against an
accident, not against the owner of the device.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.vault.ledger import RECORD, USER, Spent
from common.system import files

if TYPE_CHECKING:
    from client.vault.store import Store
    from client.vault.vault import Vault

VERSION = 1
IDENTITY = "ledger-id"  # in a store
SERVICE = "privity-ledger"  # the keyring entry's service; its user name is the ledger's id
BEHIND = (
    "This vault's ledger has forgotten {} releases that this machine knows of: it was restored from"
    " a backup. `privity-client recount` charges them again."
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a ledger held: releases by kind (as `Store.kinds` spells it), and what they came to."""

    kinds: Counter[str] = field(default_factory=Counter)
    spent: Mapping[str, Spent] = field(default_factory=dict)

    def encode(self) -> str:
        """JSON."""
        spent = {name: [one.epsilon, one.delta] for name, one in self.spent.items()}
        return json.dumps({"version": VERSION, "kinds": dict(self.kinds), "spent": spent})

    @classmethod
    def decode(cls, text: str) -> Mark:
        """Read what `encode` wrote; what is something else marks nothing."""
        try:
            found = json.loads(text)
            if found["version"] != VERSION:
                return cls()
            spent = {name: Spent(*map(float, both)) for name, both in found["spent"].items()}
            return cls(Counter({str(one): int(n) for one, n in found["kinds"].items()}), spent)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()


def identify(store: Store) -> None:
    """Give a vault's ledger the name that its mark goes by, once; a backup has the same."""
    if store.get(IDENTITY) is None:
        store.put(IDENTITY, os.urandom(16).hex().encode())


def missing(vault: Vault) -> Counter[str]:
    """The releases by kind that the marks know of and the ledger has not."""
    return _marked(vault).kinds - vault.store.kinds()


def reason(vault: Vault) -> list[str]:
    """Why no round may be joined, if the ledger went back: one sentence, or none."""
    forgotten = missing(vault)
    updates = sum(n for kind, n in forgotten.items() if json.loads(kind)["guarantee"] == RECORD)
    return [BEHIND.format(updates or forgotten.total())] if forgotten else []


def keep(vault: Vault) -> None:
    """Mark how far the ledger has come, where that can be kept; nothing is ever unmarked."""
    identity = vault.store.get(IDENTITY)
    if identity is None:  # no vault's
        return
    ledger, name = vault.store.ledger, identity.decode()
    marked, kinds = _marked(vault).kinds, vault.store.kinds()
    if not kinds - marked:
        return
    noted = {guarantee: ledger.spent(guarantee) for guarantee in (RECORD, USER)}
    spent = {guarantee: one for guarantee, one in noted.items() if one}
    mark = Mark(marked | kinds, spent).encode()
    with contextlib.suppress(OSError):
        folder().mkdir(mode=files.PRIVATE_FOLDER, parents=True, exist_ok=True)
        files.write(folder() / f"{name}.json", mark, mode=files.PRIVATE)
    if vault.kept == "keyring":
        with contextlib.suppress(Exception):  # its back ends raise what they like
            import keyring

            keyring.set_password(SERVICE, name, mark)


def recount(vault: Vault) -> int:
    """Charge again what the ledger has forgotten; how many lines that were.

    What these come to is the mark's sum where the ledger holds nothing that the mark does not know,
    else the sum of both, which is never too little.
    """
    mark, store = _marked(vault), vault.store
    forgotten, own = mark.kinds - store.kinds(), store.kinds() - mark.kinds
    spent: dict[str, Spent | None] = {}
    for guarantee in (RECORD, USER):
        known, now = mark.spent.get(guarantee), store.ledger.spent(guarantee)
        if known and now and own:
            known = Spent(known.epsilon + now.epsilon, max(known.delta, now.delta))
        spent[guarantee] = known
    store.charge_again(forgotten, spent)
    keep(vault)
    return forgotten.total()


def others() -> list[Spent]:
    """What an example was charged in each vault that this machine has a mark of."""
    marks = [Mark.decode(text) for text in _texts(folder().glob("*.json"))]
    return [mark.spent.get(RECORD, Spent(0.0, 0.0)) for mark in marks if mark.kinds]


def folder() -> Path:
    """Where marks are kept as files, by the XDG rules."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "privity" / "ledgers"


def _marked(vault: Vault) -> Mark:
    """The most that file and keyring say."""
    identity = vault.store.get(IDENTITY)
    if identity is None:
        return Mark()
    name = identity.decode()
    texts = list(_texts([folder() / f"{name}.json"]))
    if vault.kept == "keyring":
        with contextlib.suppress(Exception):
            import keyring

            texts.append(keyring.get_password(SERVICE, name) or "")
    marks = [Mark.decode(text) for text in texts]
    return max(marks, key=lambda mark: mark.kinds.total(), default=Mark())


def _texts(found: Any) -> Iterator[str]:
    for file in found:
        with contextlib.suppress(OSError, ValueError):
            yield file.read_text(encoding="utf-8")
