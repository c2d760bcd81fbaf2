"""How the project starts a process of its own, or one of Flower's.

Three things of whoever starts it must not reach it. A module of the folder it starts in: `python
-m client` puts that folder first on the module path, so that a file `client.py` there would be run
in place of ours, and be given the passphrase. A proxy, for what goes to this machine itself. And
access for others to the files that it makes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from common.system import quiet

NOWHERE = Path("/")  # the working folder of a process that needs none: nobody else can write there
PRIVATE = 0o077  # umask: files for their owner alone
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROXY = ("_proxy", "_PROXY")


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs an installed module; nothing is imported from the working folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def script(name: str, *arguments: str) -> list[str]:
    """The command that runs a console script of this installation."""
    return [str(Path(sys.executable).parent / name), *arguments]


def environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment as a child gets it, with the variables in `own`.

    The child, and the Python processes that it starts by name, import nothing from their working
    folder, find this installation's scripts first, and reach this machine without a proxy.
    """
    found = {name: value for name, value in os.environ.items() if not name.endswith(PROXY)}
    found |= {name: os.environ[name] for name in os.environ if _usable_proxy(name)}
    found |= quiet.VARIABLES | {"PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}
    found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *_absolute("PATH")])
    found.pop("PYTHONPATH", None)
    if path := _absolute("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(path)
    found["no_proxy"] = found["NO_PROXY"] = ",".join([*LOOPBACK, *_reached_directly()])
    return found | dict(own or {})


def _absolute(variable: str) -> list[str]:
    """The folders that a search path names; an empty one would be the working folder."""
    named = os.environ.get(variable, "").split(os.pathsep)
    return [folder for folder in named if Path(folder).is_absolute()]


def _usable_proxy(name: str) -> bool:
    """Whether it names a proxy that httpx can use; with another one, Flower reaches nothing."""
    if not name.endswith(PROXY) or name.lower() == "no_proxy":
        return False
    value = os.environ[name]
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _reached_directly() -> list[str]:
    """What the environment says is reached without a proxy; httpx ends at any other spelling."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip().strip("[]") for host in named.split(",")]
    return [host for host in hosts if _is_address(host) or re.fullmatch(r"[\w.*/-]+", host, re.A)]


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False
