"""LoCoMo's conversations, questions and evidence (Maharana et al., ACL 2024), from its own JSON.

Two people talk in sessions, each with a date. A question's evidence is the turns that answer it.
Category 5 asks for what was never said so; its evidence is what the question twists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.records.records import Message
from common.system import strict_json

SESSION = re.compile(r"session_(\d+)")
TURN = re.compile(r"D\d+:\d+")
WHEN = "%I:%M %p on %d %B, %Y"


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its category, and the turns that answer it."""

    text: str
    category: int
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said, by turn, and what is asked about it."""

    name: str
    turns: dict[str, Message]
    questions: list[Question]

    @property
    def end(self) -> datetime:
        """When the last turn was said."""
        return max(datetime.fromisoformat(turn.at) for turn in self.turns.values() if turn.at)


def read(file: Path) -> list[Conversation]:
    """All conversations of a file.

    Raises:
        InputError: It cannot be read, or is not LoCoMo's.
    """
    try:
        found = strict_json.decode(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError):
        found = None
    try:
        if isinstance(found, list) and found:
            return [_conversation(one) for one in found]
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    problem = f"{file} is not LoCoMo's list of conversations."
    raise InputError(problem, "Give the file locomo10.json or a part of it.")


def session_of(turn: str) -> str:
    """The session that a turn is part of."""
    return turn.partition(":")[0]


def _conversation(entry: Any) -> Conversation:
    turns = dict(_turns(entry["conversation"], str(entry["sample_id"])))
    asked = (_question(one, turns) for one in entry["qa"])
    return Conversation(entry["sample_id"], turns, [one for one in asked if one.evidence])


def _turns(talk: dict[str, Any], name: str) -> Iterator[tuple[str, Message]]:
    """Each turn as a message: the speaker's name before what was said, as a transcript has it."""
    numbers = sorted(int(found[1]) for key in talk if (found := SESSION.fullmatch(key)))
    for number in numbers:
        began = datetime.strptime(talk[f"session_{number}_date_time"], WHEN).replace(tzinfo=UTC)
        for place, turn in enumerate(talk[f"session_{number}"]):
            yield (
                turn["dia_id"],
                Message(
                    text=f"{turn['speaker']}: {turn['text']}",
                    author="me" if turn["speaker"] == talk["speaker_a"] else "other",
                    conversation=name,
                    at=(began + timedelta(seconds=place)).isoformat(),
                ),
            )


def _question(entry: Any, turns: dict[str, Message]) -> Question:
    """Some keys name turns that there are not; these are left out."""
    named = TURN.findall(" ".join(entry.get("evidence", ())))
    evidence = frozenset(turn for turn in named if turn in turns)
    return Question(entry["question"], entry["category"], evidence)
