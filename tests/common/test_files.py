"""One home of atomic, durable writes: stopped or killed at any step, the old content or the new."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.system import files

OLD, NEW = b"the old content", b"the new content, which is longer"
STEPS = ("open", "fsync", "close", "replace", "rename", "link", "mkdir", "posix_fallocate")
LEFT = "*.partial"


def written(target: Path) -> None:
    files.write(target, NEW)


def written_in_room(target: Path) -> None:
    files.reserve(target, 4096)
    files.write_reserved(target, lambda stream: stream.write(NEW))


def folder_filled(target: Path) -> None:
    with files.new_folder(target) as folder:
        (folder / "a").write_bytes(NEW)
        (folder / "deeper").mkdir()
        (folder / "deeper/b").write_bytes(NEW)


def created(target: Path) -> None:
    files.create(target, NEW)


def content(target: Path) -> bytes | dict[str, bytes] | None:
    if target.is_dir():
        inside = [file for file in target.rglob("*") if file.is_file()]
        return {str(file.relative_to(target)): file.read_bytes() for file in inside}
    return target.read_bytes() if target.exists() else None


WHOLE = {"a": NEW, "deeper/b": NEW}
CASES: list[tuple[Callable[[Path], None], object, object]] = [
    (written, OLD, NEW),
    (written, None, NEW),
    (written_in_room, OLD, NEW),
    (written_in_room, None, NEW),
    (created, None, NEW),
    (folder_filled, None, WHOLE),
]


def before(target: Path, old: object) -> None:
    if isinstance(old, bytes):
        target.write_bytes(old)


@contextmanager
def stopped_at(step: int, stop: Callable[[], None], *, after: bool = False) -> Iterator[list[str]]:
    """Call `stop` before (or right after) the system call number `step` of those that count."""
    seen: list[str] = []

    def watched(name: str) -> Callable[..., object]:
        call = getattr(os, name)

        def step_of(*arguments: object, **options: object) -> object:
            seen.append(name)
            now = len(seen) - 1 == step
            if now and not after:
                stop()
            try:
                return call(*arguments, **options)
            finally:
                if now:
                    stop()

        return step_of

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, watched(name))
        yield seen


def broken() -> None:
    raise KeyboardInterrupt


def killed() -> None:
    os._exit(9)


@pytest.mark.parametrize(("act", "old", "new"), CASES)
@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_any_step_it_is_the_old_or_the_new_and_nothing_is_left(
    act: Callable[[Path], None], old: object, new: object, after: bool, tmp_path: Path
) -> None:
    found = []
    for step in range(100):
        target = tmp_path / f"{step}" / "target"
        target.parent.mkdir()
        before(target, old)
        with stopped_at(step, broken, after=after) as seen:
            try:
                act(target)
            except KeyboardInterrupt:
                finished = False
            else:
                finished = True
        assert content(target) in (old, new), seen
        if act is not written_in_room:  # whose room stays taken, for another try
            assert not list(target.parent.glob(LEFT)), seen
        if finished:
            break
        found.append(content(target))
    assert content(target) == new
    assert step >= 4  # of which each was reached
    assert old in found and new in found  # stopped before the rename, and after it
    files.release(target)
    assert not list(target.parent.glob(LEFT))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
@pytest.mark.parametrize(("act", "old", "new"), CASES)
def test_killed_at_any_step_it_is_the_old_or_the_new_and_can_be_done_again(
    act: Callable[[Path], None], old: object, new: object, tmp_path: Path
) -> None:
    for step in range(100):
        target = tmp_path / f"{step}" / "target"
        target.parent.mkdir()
        before(target, old)
        child = os.fork()
        if not child:
            with stopped_at(step, killed):
                act(target)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert content(target) in (old, new)
        others = {file.name for file in target.parent.iterdir()} - {"target"}
        assert all(name.endswith(".partial") for name in others)
        if code == 0:
            break
        if act is not folder_filled or content(target) is None:
            act(target)
        assert content(target) == new
    assert code == 0 and step >= 4


def test_content_is_on_the_disk_before_its_name_is_and_the_name_before_it_returns(
    tmp_path: Path,
) -> None:
    with stopped_at(-1, broken) as seen:
        files.write(tmp_path / "file", NEW)
    assert [one for one in seen if one not in ("open", "close")] == ["fsync", "replace", "fsync"]
    with stopped_at(-1, broken) as seen:
        files.write(tmp_path / "file", NEW, durable=False)
    assert "fsync" not in seen and "replace" in seen
    with stopped_at(-1, broken) as seen:
        files.create(tmp_path / "other", NEW)
    assert [one for one in seen if one not in ("open", "close")] == ["fsync", "link", "fsync"]


def test_a_private_file_is_private_from_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, modes = tmp_path / "key", []
    flush, put = os.fsync, os.replace
    target.write_bytes(OLD)
    target.chmod(0o644)
    left = files._scratch(target)  # by a killed process of the same number
    left.write_bytes(OLD)
    left.chmod(0o666)

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = os_open(path, flags, mode)
        if Path(path) == left:
            modes.append((os.fstat(descriptor).st_mode, os.fstat(descriptor).st_size))
        return descriptor

    def noted(call: Callable[..., None]) -> Callable[..., None]:
        def noting(*arguments: object) -> None:
            modes.extend((one.stat().st_mode, -1) for one in tmp_path.glob(LEFT))
            call(*arguments)

        return noting

    os_open = os.open
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", noted(flush))
    monkeypatch.setattr(os, "replace", noted(put))
    umask = os.umask(0)
    try:
        files.write(target, NEW, mode=files.PRIVATE)
        files.create(tmp_path / "once", NEW, mode=files.PRIVATE)
        with files.new_folder(tmp_path / "folder", mode=files.PRIVATE_FOLDER) as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files.write(tmp_path / "open", NEW)
    finally:
        os.umask(umask)
    assert modes[0] == (stat.S_IFREG | 0o600, 0)  # made anew, empty and closed to others
    assert [stat.S_IMODE(mode) for mode, _ in modes[:3]] == [0o600] * 3
    for name, mode in (("key", 0o600), ("once", 0o600), ("folder", 0o700), ("open", 0o666)):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode, name


def test_a_link_in_the_place_of_the_scratch_file_is_not_written_through(tmp_path: Path) -> None:
    target, other = tmp_path / "target", tmp_path / "other"
    other.write_bytes(OLD)
    files._scratch(target).symlink_to(other)
    files.write(target, NEW)
    assert (target.read_bytes(), other.read_bytes()) == (NEW, OLD)


def test_many_writers_and_one_reader_who_never_sees_a_mix(tmp_path: Path) -> None:
    target = tmp_path / "target"
    texts = [letter * 100_000 for letter in "abcd"]

    def writing(text: str) -> None:
        for _ in range(30):
            files.write(target, text, durable=False)

    files.write(target, texts[0])
    threads = [threading.Thread(target=writing, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert target.read_text() in texts
    for thread in threads:
        thread.join()
    assert [file.name for file in tmp_path.iterdir()] == ["target"]


def test_one_of_many_creates_and_all_read_its_content(tmp_path: Path) -> None:
    target, won = tmp_path / "target", []

    def trying(number: int) -> None:
        if files.create(target, bytes([number]) * 1000):
            won.append(number)

    threads = [threading.Thread(target=trying, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and target.read_bytes() == bytes(won) * 1000
    assert [file.name for file in tmp_path.iterdir()] == ["target"]


def test_a_folder_that_is_in_use_stays_and_of_equal_ones_the_first(tmp_path: Path) -> None:
    target = tmp_path / "target"
    folder_filled(target)
    (target / "mine").write_bytes(OLD)
    with pytest.raises(OSError):
        folder_filled(target)
    with files.new_folder(target, first_wins=True) as folder:
        (folder / "a").write_bytes(OLD)
    assert content(target) == WHOLE | {"mine": OLD}
    assert [file.name for file in tmp_path.iterdir()] == ["target"]


def test_what_new_folder_refuses_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    folder_filled(tmp_path / "full")
    for name in ("file", "link", "dead", "full"):
        assert files.is_taken(tmp_path / name), name
        with pytest.raises(OSError):
            folder_filled(tmp_path / name)
    for name in ("empty", "new"):
        assert not files.is_taken(tmp_path / name), name
        folder_filled(tmp_path / name)
    assert not list(tmp_path.glob(LEFT))


def test_nothing_else_flushes_files() -> None:
    """Another home for durable writes would have its own order of steps."""
    root = Path(files.__file__).parents[2]
    folders = (root / name for name in ("client", "common", "server", "simulations"))
    sources = [file for folder in folders for file in folder.rglob("*.py")]
    found = [file.name for file in sources if "os.fsync" in file.read_text(encoding="utf-8")]
    assert found == ["files.py"]
