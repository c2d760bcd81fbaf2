"""A federation for a benchmark: the operator's commands, a folder that goes away, and a free port.

What is not set has the default that an operator gets.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.errors import PrivityError
from common.system.processes import environment, python
from server.deployment.place import Place
from server.deployment.supervisor import die_with_parent
from simulations.evidence.benchmarks.federation_processes import ended, free_port

PATIENCE_S = 300.0
Chosen = Mapping[str, Mapping[str, object]]  # section of privity.toml: name: value, as TOML has it


@contextlib.contextmanager
def operator(fed: Path, chosen: Chosen) -> Iterator[Place]:
    """`privity-server up` in a new folder, until the end of the block.

    Raises:
        PrivityError: It did not come up in time.
    """
    output_of(fed.parent, "server", "init", str(fed), "--port", str(free_port()))
    place = Place(fed)
    ports = {"gateway": {"superlink_port": free_port()}, "dashboard": {"port": free_port()}}
    for section, values in [*ports.items(), *chosen.items()]:
        choose(place.settings_file, section, values)
    log = (fed.parent / "up.log").open("w")
    up = subprocess.Popen(
        python("server", "up", "--dir", str(fed)), cwd=fed.parent, env=environment(),
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        wait_for(place.log / "privity.log", " ready")
        yield place
    finally:
        ended(up)
        log.close()


def choose(settings: Path, section: str, values: Mapping[str, object]) -> None:
    """Edit privity.toml as a person would."""
    head, mark, rest = settings.read_text().partition(f"[{section}]")
    for name, value in values.items():
        rest, found = re.subn(f"(?m)^{name} = .*$", f"{name} = {value}", rest, count=1)
        assert found, name
    settings.write_text(head + mark + rest)


def output_of(folder: Path, which: str, *words: str, home: Path | None = None) -> str:
    """What `privity-client` or `privity-server` prints.

    Raises:
        PrivityError: It failed.
    """
    secret = folder / "passphrase"
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text("only for a benchmark\n")
    own = {"PRIVITY_PASSPHRASE_FILE": str(secret)} | ({"PRIVITY_HOME": str(home)} if home else {})
    done = subprocess.run(
        python(which, *words),
        cwd=folder, env=environment(own), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise PrivityError(f"privity-{which} {words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def wait_for(log: Path, words: str) -> None:
    """Wait until a log has these words.

    Raises:
        PrivityError: Not in time.
    """
    end = time.monotonic() + PATIENCE_S
    while not (log.exists() and words in log.read_text()):
        if time.monotonic() > end:
            raise PrivityError("The federation did not come up in time.")
        time.sleep(0.2)
