"""`chat`: real conversations of real people (chitchat-dataset, MIT), one person a client.

People with at least as many answers as the run uses are sampled by seed; who has nothing to learn
from, or nothing held out, makes room for the next. Seeds below 100 draw from one half of them and
seeds from 100 on from the other, so that what was tuned on the one is new to the other.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from functools import lru_cache

from common.errors import InputError
from common.models.wheels import CHITCHAT, unpacked
from common.records.records import Message, Record
from common.tasks import TASKS
from common.tasks.sets import HELD_OUT_SHARE

DESCRIPTION = "1,315 real people chatting in English (chitchat-dataset, MIT)"
KINDS = frozenset({Message.kind})
TUNING_SEED = 100

Fits = Callable[[int, list[Record]], bool]


def people(users: int, examples: int, seed: int, fits: Fits) -> dict[str, list[Record]]:
    """Records of `users` sampled people (0: all), by their pseudonym in the data set.

    Args:
        fits: Whether these records serve as those of client number so and so.

    Raises:
        InputError: When there are fewer people with enough answers.
    """
    records, answers = _load()
    wanted = examples / (1 - HELD_OUT_SHARE)
    half = [name for name in records if _half(name) == (seed >= TUNING_SEED)]
    enough = sorted(name for name in half if answers[name] >= wanted)
    chosen: dict[str, list[Record]] = {}
    for name in _order(enough, users, seed):
        if fits(len(chosen), records[name]):
            chosen[name] = records[name]
        if users and len(chosen) == users:
            break
    if users > len(chosen):
        raise InputError(
            f"--users {users} is more than the {len(chosen)} people with {wanted:.0f} answers,"
            " at least one of them held out.",
            "Lower --users or --examples.",
        )
    return chosen


def _order(names: list[str], users: int, seed: int) -> list[str]:
    """All names, those that are wanted first, as the seed has it."""
    chance = random.Random(seed)  # noqa: S311
    first = chance.sample(names, min(users, len(names)) or len(names))
    others = sorted(set(names) - set(first))
    return first + chance.sample(others, len(others))


def _half(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


@lru_cache(maxsize=1)
def _load() -> tuple[dict[str, list[Record]], dict[str, int]]:
    """Everybody's messages as records of their own side, and how many answers each gave."""
    task = TASKS["chat"]
    raw = json.loads((unpacked(CHITCHAT) / "dataset.json").read_text(encoding="utf-8"))
    records: dict[str, list[Record]] = {}
    answers: dict[str, int] = {}
    for conversation, content in raw.items():
        messages = [message for run in content["messages"] for message in run]
        senders = {message["sender"] for message in messages}
        for person in senders:
            mine = [_record(message, person, conversation) for message in messages]
            records.setdefault(person, []).extend(mine)
            answers[person] = answers.get(person, 0) + len(task.examples(mine))
    return records, answers


def _record(message: dict[str, str], person: str, conversation: str) -> Record:
    author = "me" if message["sender"] == person else "other"
    return Message(
        text=message["text"], author=author, conversation=conversation, at=message["timestamp"]
    )
