"""`--data DIR`: your own people, one `<user>.jsonl` each."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

from common.errors import InputError
from common.records.records import Record, read_records


@lru_cache(maxsize=2)
def people(data: str, users: int, seed: int) -> dict[str, list[Record]]:
    """Records by user, the file's name; all of them in name order, or `users` sampled by seed.

    Files `._…` are macOS' notes on other files and belong to nobody.

    Raises:
        InputError: For a missing or empty folder, a malformed line, or too few people.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"There is no folder {data}.", "Give --data a folder of .jsonl files.")
    names = [file.name for file in folder.iterdir() if not file.name.startswith("._")]
    files = sorted(folder / name for name in names if name.endswith(".jsonl"))
    for name in names:
        if not name.endswith(".jsonl") and ".jsonl" in name.lower():
            problem = f"{folder / name} does not end in .jsonl, so its person would be left out."
            raise InputError(problem, "Unpack or rename it, or put it elsewhere.")
    if not files:
        problem = f"{data} has no .jsonl files."
        raise InputError(problem, "Put one <user>.jsonl per person there.")
    if users > len(files):
        problem = f"--users {users} is more than the {len(files)} people in {data}."
        raise InputError(problem, "Lower --users, or leave it out for all.")
    if users:
        files = sorted(random.Random(seed).sample(files, users))  # noqa: S311
    return {file.stem: read_records(file) for file in files}
