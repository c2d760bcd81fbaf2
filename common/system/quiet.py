"""The libraries that we use, kept quiet: no telemetry, no look-ups, no bars, no warnings.

What they would say is said by us where it matters to a person. Each silence names what it is
about at its place of use; nothing is silenced for a whole process but telemetry and bars.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

VARIABLES = {  # of the environment: of our own processes, and of those that we start
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
RAY = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # silences a warning; leaves GPUs visible
CHATTY = ("httpx", "httpx2", "uvicorn", "matplotlib")


def flower(home: Path) -> dict[str, str]:
    """Variables of Flower's processes, with files in `home`; a log level that was set stays."""
    level = os.environ.get("FLWR_LOG_LEVEL", "WARNING")
    return {"FLWR_HOME": str(home), "FLWR_LOG_LEVEL": level, "PYTHONUNBUFFERED": "1"}


def this_process() -> None:
    """Set the variables for this process, where the user has not set them."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)


def log_lines() -> None:
    """Let this process log plain lines on stderr; of chatty libraries, warnings and worse."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextlib.contextmanager
def no_warnings(message: str = "", category: type[Warning] = Warning) -> Iterator[None]:
    """Inside the block no warning of this category is shown whose text begins with `message`.

    Args:
        message: A regular expression.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message, category=category)
        yield


@contextlib.contextmanager
def transformers() -> Iterator[None]:
    """Keep transformers' own bars and warnings off the terminal; ours are shown instead."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    this_process()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    disable_progress_bars()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with no_warnings():
        yield


@contextlib.contextmanager
def no_bar_in_logs() -> Iterator[None]:
    """Transformers' conversion bar, which cannot be switched off, belongs on a terminal only."""
    if sys.stderr.isatty():
        yield
        return
    with contextlib.redirect_stderr(io.StringIO()):
        yield
