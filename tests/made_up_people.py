"""People of random words, a file each; and conversations as the chat scenario's wheel has them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = ("tea", "rain", "garden", "train", "music", "bread", "winter", "river", "story")
Runner = Callable[..., dict[str, Any]]  # the fixture `run`


def write_people(folder: Path, count: int, *, answers: int = 10, seed: int = 0) -> Path:
    """Synthetic people: random words, one file each; the latest fifth is marked as held out."""
    chance = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        lines = []
        for turn in range(answers):
            for author in ("other", "me"):
                text = " ".join(chance.choices(WORDS, k=3))
                at = f"2026-01-{turn + 1:02d}T10:00:0{author == 'me':d}Z"
                message = {"kind": "message", "text": text, "author": author}
                split = "train" if turn < int(0.8 * answers) else "heldout"
                message |= {"conversation": "c", "at": at, "split": split}
                lines.append(json.dumps(message))
        (folder / f"person{number:03d}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_labelled(folder: Path, count: int) -> Path:
    """Synthetic people again: texts of random words, each with one of two labels."""
    folder.mkdir(parents=True)
    for number in range(count):
        chance, lines = random.Random(number), []
        for turn in range(10):
            record = {"kind": "example", "text": " ".join(chance.choices(WORDS, k=3))}
            record |= {"label": ("card", "cash")[turn % 2]}
            lines.append(json.dumps(record | {"split": "heldout" if turn > 7 else "train"}))
        (folder / f"desk{number}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_conversations(cache: Path, people: int, answers: int) -> None:
    """Pairs of people who talk to each other, where the wheel of the scenario is unpacked."""
    folder = cache / "wheels" / "chitchat-dataset-0.9.0" / "chitchat_dataset"
    folder.mkdir(parents=True)
    conversations = {}
    for pair in range(people // 2):
        names = (f"person {2 * pair}", f"person {2 * pair + 1}")
        said = [
            {
                "sender": names[i % 2],
                "text": f"{pair} says {i}",
                "timestamp": f"2018-01-01T00:{i:02}:00Z",
            }
            for i in range(2 * answers + 1)
        ]
        conversations[str(pair)] = {"messages": [said]}
    (folder / "dataset.json").write_text(json.dumps(conversations), encoding="utf-8")
