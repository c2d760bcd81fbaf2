"""What a federation asks of those who join: its name and the settings of its rounds, for anybody.

A device shows them to its person before the invite is used. They promise nothing: every round's
terms are checked by themselves (client/federation/acceptance.py, client/federation/policy.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from common.enrolment.protocol import MAX_BYTES, MAX_NAME
from common.errors import DecodeError, InputError
from common.settings import Settings, from_mapping

VERSION = 1
PATH = "/v1/terms"


@dataclass(frozen=True, slots=True)
class Offer:
    """A federation's name and settings."""

    federation: str
    settings: Settings

    def encode(self) -> bytes:
        """JSON."""
        shown = {"federation": self.federation, "settings": self.settings.to_dict()}
        return json.dumps({"version": VERSION, **shown}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Offer:
        """Read what `encode` wrote.

        Raises:
            DecodeError: Anything else, such as the settings of a newer version.
        """
        try:
            found = json.loads(data.decode()) if len(data) <= MAX_BYTES else None
            if not isinstance(found, dict) or set(found) != {"version", "federation", "settings"}:
                raise ValueError("other keys")
            name, version = found["federation"], found["version"]
            named = isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()
            if version != VERSION or not named or not isinstance(found["settings"], dict):
                raise ValueError("another form")
            return cls(name, from_mapping(found["settings"]))
        except (ValueError, RecursionError, InputError):
            raise DecodeError("These are not a federation's terms that are known here.") from None
