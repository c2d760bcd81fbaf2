"""A conversation in the terminal. Nothing of it is stored, and nothing is sent anywhere."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from typing import TextIO

from rich.console import Console

from client.assistant.engine import MAX_TOKENS, TEMPERATURE, ChatMessage, Engine, Pieces
from common.errors import InputError

PROMPT = "> "
HELP = """\
/new   start a new conversation
/help  show this
/quit  leave (or Ctrl-D)
Ctrl-C stops an answer; a second one leaves."""


def chat(
    engine: Engine,
    input_stream: TextIO,
    output_stream: TextIO,
    *,
    max_tokens: int = MAX_TOKENS,
    temperature: float = TEMPERATURE,
    seed: int | None = None,
) -> None:
    """Talk until the input ends, `/quit`, or Ctrl-C while no answer is being written.

    Args:
        seed: Of every answer's sampling; None draws one from the system.
    """
    out = Console(file=output_stream, highlight=False, markup=False, soft_wrap=True)
    out.print(opening(engine), style="dim")
    messages: list[ChatMessage] = []
    for line in _lines(input_stream, output_stream):
        if line in ("/quit", "/exit"):
            return
        if line == "/help":
            out.print(HELP)
        elif line == "/new":
            messages.clear()
            out.print("A new conversation.", style="dim")
        elif line.startswith("/"):
            out.print("Unknown command; /help lists them.", style="dim")
        else:
            messages.append({"role": "user", "content": line})
            try:
                pieces = engine.reply(
                    messages, max_tokens=max_tokens, temperature=temperature, seed=seed
                )
                answer, stopped = _write(pieces, output_stream)
            except InputError as error:
                messages.pop()
                out.print(str(error), style="dim")
                continue
            messages.append({"role": "assistant", "content": answer})
            if stopped:
                out.print("Stopped. Ctrl-C again leaves.", style="dim")


def opening(engine: Engine) -> str:
    """One line: what answers, with which adapters, and where the text goes."""
    adapters = " and ".join(engine.adapters)
    words = f"with the {adapters} adapter" if adapters else "without an adapter"
    words += "s" if len(engine.adapters) > 1 else ""
    return (
        f"{engine.description}, {words}. What is written here goes nowhere: "
        "it is neither sent nor stored. /help shows the commands."
    )


def _lines(input_stream: TextIO, output_stream: TextIO) -> Iterator[str]:
    """What the person writes, without empty lines; ends with the input or with Ctrl-C."""
    while True:
        try:
            line = _line(input_stream, output_stream)
        except (EOFError, KeyboardInterrupt):
            output_stream.write("\n")
            return
        if line := line.strip():
            yield line


def _line(input_stream: TextIO, output_stream: TextIO) -> str:
    if input_stream is sys.stdin and output_stream is sys.stdout and input_stream.isatty():
        import readline  # noqa: F401 (gives `input` its editing keys; it writes no history file)

        return input(PROMPT)
    if input_stream.isatty():
        output_stream.write(PROMPT)
        output_stream.flush()
    if not (line := input_stream.readline()):
        raise EOFError
    return line


def _write(pieces: Pieces, stream: TextIO) -> tuple[str, bool]:
    """The answer as it comes; what was written of it, and whether Ctrl-C stopped it."""
    written: list[str] = []
    stopped = False
    with closing(pieces):
        try:
            for piece in pieces:
                written.append(printable(piece))
                stream.write(written[-1])
                stream.flush()
        except KeyboardInterrupt:
            stopped = True
    stream.write("\n")
    stream.flush()
    return "".join(written), stopped


def printable(text: str) -> str:
    """Text without control characters: an adapter must not be able to drive the terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
