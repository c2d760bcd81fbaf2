"""JSON that may be larger than memory: its parts one by one, and where it breaks off."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from client.importers.source import Source

SCALARS = {"string", "number", "boolean", "null"}


class BrokenOffError(Exception):
    """The file is no JSON from some byte on; what came before was read."""


def parts(source: Source, wanted: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The values at some places of a file, in its order, each built when its end was read.

    Args:
        wanted: Places as ijson spells them: `item` for each element of the outermost list,
            `chats.list.item.name` for a key.

    Raises:
        BrokenOffError: The file is no JSON from here on.
        InputError: As `Source.open`.
    """
    import ijson
    from ijson.common import ObjectBuilder

    with source.open() as stream:
        builder, place, depth = ObjectBuilder(), "", 0
        try:
            for prefix, event, value in ijson.parse(_without_mark(stream), use_float=True):
                if place:
                    builder.event(event, value)
                    depth += (event in ("start_map", "start_array")) - (
                        event in ("end_map", "end_array")
                    )
                    if depth == 0:
                        yield place, builder.value
                        place = ""
                elif prefix in wanted and event in SCALARS:
                    yield prefix, value
                elif prefix in wanted and event in ("start_map", "start_array"):
                    builder, place, depth = ObjectBuilder(), prefix, 1
                    builder.event(event, value)
        except (ijson.JSONError, UnicodeDecodeError, ValueError) as error:
            raise BrokenOffError from error


def _without_mark(stream: Any) -> Any:
    if stream.peek(3)[:3] == b"\xef\xbb\xbf":
        stream.read(3)
    return stream
