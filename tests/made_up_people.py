"""People of random words, a file each."""

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
