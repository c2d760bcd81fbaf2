"""A federation's folder may have any name: nothing of it gets outside, and nobody else reads it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from threading import Event

import pytest
from flwr.supercore.sql_mixin import SqlMixin as LinkState
from sqlalchemy import create_engine

from common.errors import InputError
from server.deployment.journal import Journal
from server.deployment.place import create, existing
from server.deployment.superlink import flower_place
from server.deployment.supervisor import Part, Supervisor

ODD = [
    "a b", "a?b", "?", "a#b", "a%b", "a%20b", "a%3Fb", "a%(x)sb", "a'b", 'a"b', "a;b", "a&b=c", "é",
    "日本", "a\nb", "a\\b", "a@b", "a:b", "-a", "~", "$HOME", "{a}", "[a]", "*", " ",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_flowers_database_is_in_the_folder(tmp_path: Path, name: str) -> None:
    """Oracle: Flower's own reading of the option that the SuperLink is started with."""
    folder = tmp_path / name / "ours"
    folder.parent.mkdir()
    place = create(folder)
    command = flower_place(place).superlink()

    state = LinkState(command[command.index("--database") + 1])
    with create_engine(state.database_url).connect() as database:
        database.exec_driver_sql("PRAGMA user_version = 1")
    assert place.superlink_file.exists()
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert list(folder.parent.iterdir()) == [folder]
    modes = [stat.S_IMODE(file.stat().st_mode) for file in (folder, place.keys, place.log)]
    assert modes == [0o700] * 3


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    for made in (create, existing):
        with pytest.raises(InputError, match="is not UTF-8") as caught:
            made(folder)
        str(caught.value).encode()
    assert list(tmp_path.iterdir()) == []


def test_what_a_part_writes_is_for_its_owner_alone(tmp_path: Path) -> None:
    code = "open('file', 'w').close(); import os; os.mkdir('folder'); open('done', 'w').close()"
    journal = Journal(tmp_path / "log", aloud=False)
    part = Part(
        "one", [sys.executable, "-c", code], os.environ, tmp_path, (tmp_path / "done").exists
    )
    parts = Supervisor([part], journal)
    try:
        parts.start(Event())
    finally:
        parts.stop()
        journal.close()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
