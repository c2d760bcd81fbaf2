"""A file, or a file inside a zip file, that records may be in: read as a stream, within bounds."""

from __future__ import annotations

import codecs
import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import IO, BinaryIO

from common.errors import InputError

HEAD_BYTES = 64 * 1024
SAMPLE_BYTES = 1024 * 1024  # by which an encoding is told
MOST_MEMBERS = 100_000  # files in one zip file
MOST_RATIO = 200  # of unpacked to packed bytes, beyond SMALL_BYTES: text packs to a tenth
SMALL_BYTES = 100_000_000
MOST_BYTES = 20_000_000_000  # in one file, unpacked
LEFT_OUT = ("__MACOSX/", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True)
class Source:
    """One file to read.

    Attributes:
        path: On the disk.
        member: Its name inside the zip file `path`; empty: the file itself.
        within: The folder it was found in, which no link may lead out of; None: it was named.
        size: Bytes, unpacked.
    """

    path: Path
    member: str = ""
    within: Path | None = None
    size: int = 0
    _read: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    @property
    def shown(self) -> str:
        """As a person is told of it."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """The file's own name."""
        return Path(self.member).name if self.member else self.path.name

    @property
    def consumed(self) -> int:
        """Bytes that were read so far of the stream that was opened last."""
        return self._read[0]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes from the start; those of a zip file are unpacked on the way.

        Raises:
            InputError: They cannot be read, are encrypted, damaged, or far more than they seem.
        """
        self._read[0] = 0
        try:
            if not self.member:
                with self.path.open("rb") as plain:
                    yield io.BufferedReader(_Counted(plain, self._read, MOST_BYTES))
                return
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(self.member)
                most = max(SMALL_BYTES, MOST_RATIO * max(1, info.compress_size))
                with archive.open(info) as packed:
                    yield io.BufferedReader(_Counted(packed, self._read, min(most, MOST_BYTES)))
        except OSError as error:
            problem = f"{self.shown} cannot be read: {error.strerror or type(error).__name__}."
            raise InputError(problem, "Name a file that you can read.") from error
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            problem = f"{self.shown} cannot be unpacked ({type(error).__name__})."
            raise InputError(problem, "Unpack it yourself, and name what was in it.") from None
        except Exception as error:
            if type(error).__module__ in ("zlib", "lzma", "bz2", "_lzma"):
                problem = f"{self.shown} is damaged: it cannot be unpacked to its end."
                raise InputError(problem, "Fetch the file again.") from None
            raise

    @contextmanager
    def text(self) -> Iterator[io.TextIOWrapper]:
        """The text from the start, in the encoding that it seems to have; lines end as in the file.

        Raises:
            InputError: As `open`.
        """
        with self.open() as stream:
            yield io.TextIOWrapper(stream, encoding=self.encoding, errors="replace", newline="")

    @cached_property
    def head(self) -> bytes:
        """How it begins."""
        with self.open() as stream:
            return stream.read(HEAD_BYTES)

    @cached_property
    def head_text(self) -> str:
        """How it begins, as text without a byte-order mark."""
        return self.head.decode(self.encoding, "replace").removeprefix("\ufeff")

    @cached_property
    def encoding(self) -> str:
        """UTF-8 where that fits, UTF-16 by its mark, else what the bytes look like most."""
        with self.open() as stream:
            sample = stream.read(SAMPLE_BYTES)
        if sample.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        try:
            codecs.getincrementaldecoder("utf-8")().decode(sample)
        except UnicodeDecodeError:
            from charset_normalizer import from_bytes

            best = from_bytes(sample[:HEAD_BYTES]).best()
            return best.encoding if best else "latin-1"
        return "utf-8"


class _Counted(io.RawIOBase):
    """A stream that counts what is read of it, and stops beyond a limit."""

    def __init__(self, stream: IO[bytes], read: list[int], most: int) -> None:
        self._stream, self._read, self._most = stream, read, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        self._read[0] += len(found)
        if self._read[0] > self._most:
            problem = "A packed file unpacks to far more than a text would."
            raise InputError(
                problem, "Unpack it yourself if you trust it; it looks like a zip bomb."
            )
        return len(found)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is not looked into, and why."""

    shown: str
    reason: str


def sources(paths: Sequence[Path]) -> Iterator[Source | Refused]:
    """All files under these paths: files, folders with all that is in them, patterns, zip files.

    Raises:
        InputError: One that was named is not there, or is no file.
    """
    for path in paths:
        if not path.exists() and has_magic(str(path)):
            found = sorted(map(Path, glob(str(path), recursive=True)))  # noqa: PTH207
            if not found:
                raise InputError(f"Nothing fits {path}.", "Name files, or a folder.")
            yield from sources(found)
        elif path.is_dir():
            for inside in sorted(path.rglob("*")):
                if not inside.is_dir() and not any(p.startswith(".") for p in _below(inside, path)):
                    yield from _one(inside, path)
        else:
            yield from _one(path, None)


def _below(inside: Path, folder: Path) -> tuple[str, ...]:
    return inside.relative_to(folder).parts


def _one(path: Path, within: Path | None) -> Iterator[Source | Refused]:
    reason = _not_a_file(path, within)
    if reason and within is None:
        raise InputError(f"{path} {reason}.", "Name a file, or a folder.")
    if reason:
        yield Refused(str(path), reason)
    elif path.name.endswith(LEFT_OUT):
        return
    elif zipfile.is_zipfile(path):
        yield from _members(path, within)
    else:
        yield Source(path, "", within, path.stat().st_size)


def _not_a_file(path: Path, within: Path | None) -> str:
    try:
        if within and path.is_symlink() and not path.resolve().is_relative_to(within.resolve()):
            return "is a link out of the folder"
        mode = path.stat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "is no file but a pipe, a socket or a device"


def _members(path: Path, within: Path | None) -> Iterator[Source | Refused]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError):
        yield Refused(str(path), "is a damaged zip file")
        return
    if len(infos) > MOST_MEMBERS:
        yield Refused(str(path), f"has more than {MOST_MEMBERS:,} files in it")
        return
    for info in infos:
        hidden = any(part.startswith(".") for part in Path(info.filename).parts)
        if info.is_dir() or hidden or info.filename.startswith(LEFT_OUT[0]):
            continue
        if info.flag_bits & 1:
            yield Refused(f"{path}/{info.filename}", "is encrypted")
        else:
            yield Source(path, info.filename, within, info.file_size)
