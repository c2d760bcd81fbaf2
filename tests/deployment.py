"""A federation on this machine for tests: real processes, real TLS, real enrolment.

Clients can be told to die at a given place of a round. They are started by `privity-client start`
like any other; a `sitecustomize` on their path reads the order from a file, so that the product
has no hook for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.cli import main
from client.commands.uploads import listing
from client.vault.ownership import owner
from client.vault.unlocking import Passphrase
from client.vault.vault import LOCK, Vault
from server.deployment.place import Place
from server.registry.goal import maker_of_rounds
from server.registry.registry import RoundEntry, history

SERVER = [sys.executable, "-c", "import sys; from server.cli import main; sys.exit(main())"]
CLIENT = [sys.executable, "-m", "client"]
MODEL = os.environ.get("PRIVITY_TEST_MODEL", "tiny")  # any that `privity-sim run` takes
COMMAND_S, UP_S, ROUND_S = 120.0, 180.0, 300.0
PASSPHRASE = "correct horse battery"
ORDER = "order"  # in a client's folder: where it dies, `before confirm`, or loses its link

# What everybody here likes to say, and a word that is one person's own.
ANSWERS = ("tea by the river, please", "rain in the garden again", "bread and winter music")
SECRETS = ("marzipan", "quetzal", "zeppelin", "obsidian", "xylophone")

OBEDIENT = """
import os, signal, sys
if "--foreground" in sys.orig_argv:
    from pathlib import Path
    order = Path(sys.orig_argv[sys.orig_argv.index("--home") + 1]) / "order"
    from client.federation import link, participation
    from client.vault import ledger

    def obey(*place):
        if order.exists() and order.read_text().split() == list(place):
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    made = []

    def leg(name, original):
        def wrapped(*arguments, **options):
            obey("before", name)
            answer = original(*arguments, **options)
            obey("after", name)
            made.append(name)
            return answer
        setattr(participation, name, wrapped)

    for name in ("advertise", "share", "update", "confirm", "reveal"):
        leg(name, getattr(participation, name))

    def charge(self, *arguments, original=ledger.Ledger.charge):
        original(self, *arguments)
        obey("charged", "update")
    ledger.Ledger.charge = charge

    def lose(*place):
        if order.exists() and order.read_text().split() == list(place):
            order.unlink()
            raise link.LinkLostError("a cut")

    def receive(self, original=link.Link.receive):
        message = original(self)
        for name in message.content if message else ():
            lose("lost", name)
        return message
    link.Link.receive = receive

    def send(self, *arguments, original=link.Link.send):
        for name in made:
            lose("unsent", name)
        original(self, *arguments)
        for name in made:
            obey("sent", name)
        made.clear()
    link.Link.send = send

    if skew := float(os.environ.get("PRIVITY_TEST_SKEW_S", "0")):
        import datetime
        from flwr.supernode import node_auth_http_interceptor as signing
        right = signing.now
        signing.now = lambda: right() + datetime.timedelta(seconds=skew)
"""


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
    return found


def free_port() -> int:
    """A port that nobody listens on, drawn below those that the system gives away by itself.

    Those may be anybody's a moment later, also while a server of a test is down for a while.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def write_diary(file: Path, number: int, answers: int = 10) -> None:
    """A person whose answers can be learnt, each with a word that only they use."""
    chance, lines = random.Random(number), []
    for turn in range(answers):
        said = f"{SECRETS[number]} asks about {chance.choice(('lunch', 'today', 'sunday'))} {turn}"
        answer = f"{ANSWERS[(number + turn) % len(ANSWERS)]} {SECRETS[number]}"
        for author, text in (("other", said), ("me", answer)):
            at = f"2026-01-{turn + 1:02d}T10:00:0{author == 'me':d}Z"
            message = {"kind": "message", "text": text, "author": author, "at": at}
            split = "train" if turn < int(0.8 * answers) else "heldout"  # by no device's own key
            lines.append(json.dumps(message | {"conversation": "c", "split": split}))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


@dataclass(slots=True)
class Person:
    """One client: a vault, and the process that takes part for it.

    `inside` are the words before each command that have it run on a host of its own.
    """

    home: Path
    environment: dict[str, str]
    member: int = 0
    inside: Sequence[str] = ()

    def run(self, *arguments: str, code: int = 0, typed: str = "", **more: str) -> str:
        """What a command says, on both streams; it must end with this code."""
        done = subprocess.run(
            [*self.inside, *CLIENT, "--home", str(self.home), *arguments],
            env=self.environment | more, input=typed, capture_output=True,
            text=True, timeout=COMMAND_S,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{arguments}: {done.returncode}, {said}\n{self.tail()}"
        return said

    def start(self, **more: str) -> None:
        self.run("start", **more)

    def connected(self) -> bool:
        notes = self.notes()
        return notes.get("pid") == self.process() and notes.get("connected") == "yes"

    def order(self, *place: str) -> None:
        (self.home / ORDER).write_text(" ".join(place))

    def process(self) -> int | None:
        return owner(self.home / LOCK)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        process = self.process()
        assert process
        os.kill(process, signum)
        wait_for(lambda: self.process() is None, 30, "the client's end")

    def notes(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.home / "status.json").read_text()))
        return {}

    @contextlib.contextmanager
    def vault(self) -> Iterator[Vault]:
        with Vault.open(self.home, Passphrase(lambda _: PASSPHRASE)) as vault:
            yield vault

    def charged(self) -> dict[int, int]:
        """How many releases the ledger holds for each round, at record level."""
        with self.vault() as vault:
            lines = [e.round for e in vault.store.ledger.entries() if e.guarantee == "record"]
        return {number: lines.count(number) for number in lines}

    def uploads(self) -> dict[str, Any]:
        with self.vault() as vault:
            return listing(vault.store)

    def tail(self) -> str:
        file = self.home / "client.log"
        return file.read_text()[-2000:] if file.exists() else ""


@dataclass(slots=True)
class Federation:
    """A server and its people, all in one folder.

    With an `address`, at which people reach it, the server runs `inside` a host of its own, and
    person n inside that of `places[n]`.
    """

    folder: Path
    settings: dict[str, Any]
    people: list[Person] = field(default_factory=list)
    address: str = ""
    inside: Sequence[str] = ()
    places: Sequence[Sequence[str]] = ()
    gone: list[Person] = field(default_factory=list)
    _up: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> Place:
        return Place(self.folder / "operator")

    @property
    def environment(self) -> dict[str, str]:
        """Of every process: one thread each, and a mark by which leftovers are found."""
        own = {
            "OMP_NUM_THREADS": "1",
            "FLWR_LOG_LEVEL": "INFO",  # each answer of a device has a line
            "PRIVITY_TEST": str(self.folder),
            "PRIVITY_PASSPHRASE_FILE": str(self.folder / "passphrase"),
        }
        return {**os.environ, **own}

    def build(self, people: int) -> None:
        """Everything up: the server, and `people` clients that take part."""
        self._obedience()
        host = ["--host", self.address] if self.address else []
        self.server("init", str(self.place.folder), "--name", "Test", *host, folder=False)
        self.set({"port": free_port(), "superlink_port": free_port()}, "gateway")
        self.set({"port": free_port()}, "dashboard")
        self.set(self.settings, "run")
        self.up()
        with ThreadPoolExecutor(2 if self.places else 1) as pool:
            self.people = list(pool.map(self._person, range(people)))
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(self._join, self.people):
                pass
        for person in self.people:
            wait_for(person.connected, UP_S, "a client's connection")

    def server(self, *arguments: str, folder: bool = True, code: int = 0) -> str:
        command = [*self.inside, *SERVER, *arguments]
        command += ["--dir", str(self.place.folder)] if folder else []
        done = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=COMMAND_S,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{arguments}: {done.returncode}, {said}"
        return said

    def set(self, values: dict[str, Any], section: str = "run") -> None:
        """Edit privity.toml as a person would."""
        head, mark, rest = self.place.settings_file.read_text().partition(f"[{section}]")
        for name, value in values.items():
            text = json.dumps(value) if not isinstance(value, float) else repr(value)
            rest, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {text}", rest, count=1)
            assert found, name
        self.place.settings_file.write_text(head + mark + rest)

    def up(self) -> None:
        """Start `privity-server up` and wait until it says that it is ready."""
        before = self.log().count(" ready")
        with (self.folder / "up.log").open("ab") as output:
            self._up = subprocess.Popen(
                [*self.inside, *SERVER, "up", "--dir", str(self.place.folder)],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        up = self._up

        def ready() -> bool:
            assert up.poll() is None, self.tail()
            return self.log().count(" ready") > before

        wait_for(ready, UP_S, "up")

    def kill_up(self) -> None:
        assert self._up
        self._up.kill()
        self._up.wait()

    def down(self) -> int:
        """End `up` as an operator does; its exit code."""
        if self._up is None:
            return 0
        self._up.terminate()
        code = self._up.wait(60)
        self._up = None
        return code

    def part(self, name: str) -> int:
        """The process of the SuperLink, the superexec or the gateway."""
        assert self._up
        marks = {"superlink": "flower-superlink", "superexec": "flower-superexec"}
        mark = marks.get(name, "server.deployment.gateway_process")
        for process in children(self._up.pid):
            if mark in command_line(process):
                return process
        return 0

    def maker(self) -> int:
        """The process that makes rounds, or 0."""
        return maker_of_rounds(self.place.federation) or 0

    def ask(self, rounds: int) -> int:
        """Ask for rounds and return at once; how many outcomes there will be then."""
        self.server("run", "--rounds", str(rounds), "--no-wait")
        return self.done() + rounds

    def finish(self, last: int, seconds: float = ROUND_S) -> list[RoundEntry]:
        """Wait until there are `last` outcomes; all of them."""
        with self.explained():
            wait_for(lambda: self.done() >= last, seconds, f"outcome {last}")
            wait_for(lambda: not self.maker(), 60, "the end of the run")
        return self.entries()

    def make(self, rounds: int = 1) -> list[RoundEntry]:
        return self.finish(self.ask(rounds))

    def done(self) -> int:
        """Outcomes so far, those that nobody was charged for among them."""
        return len(self.entries())

    def entries(self) -> list[RoundEntry]:
        return history(self.place.federation / "server")

    def attempts(self, number: int) -> int:
        folder = self.place.federation / "server" / "attempts"
        return len(list(folder.glob(f"{number:04d}-*")))

    def answers(self) -> int:
        """How many answers of devices the SuperLink has taken so far."""
        return self.log().count("Push replies from")

    def log(self) -> str:
        file = self.place.log / "privity.log"
        return file.read_text() if file.exists() else ""

    def tail(self) -> str:
        lines = [self.log()[-4000:]]
        lines += [f"{person.home.name}: {person.notes()} {person.tail()}" for person in self.people]
        file = self.folder / "up.log"
        return "\n".join([*lines, file.read_text()[-1500:] if file.exists() else ""])

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """On failure, show the ends of all logs."""
        try:
            yield
        except BaseException:
            print(self.tail())  # noqa: T201
            raise

    def end(self) -> None:
        """Whatever happened: nothing of ours stays."""
        for person in self.people:
            with contextlib.suppress(Exception):
                person.run("stop")
        with contextlib.suppress(Exception):
            self.down()
        for process in self.leftovers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def leftovers(self) -> list[int]:
        """Processes that bear this federation's mark."""
        return bearing(f"PRIVITY_TEST={self.folder}")

    def _person(self, number: int) -> Person:
        """With a vault that holds their diary, made by the commands' own code.

        In this process, which is faster, but for a person on a host of their own.
        """
        diary = self.folder / "people" / f"person{number}.jsonl"
        write_diary(diary, number)
        obedience = {"PYTHONPATH": os.pathsep.join([str(self.folder / "obedience"), *_path()])}
        inside = self.places[number] if self.places else ()
        home = self.folder / f"client{number}"
        person = Person(home, self.environment | obedience, inside=inside)
        common = ["--home", str(person.home), "--passphrase-file", str(self.folder / "passphrase")]
        for command in (["init"], ["import", str(diary)], ["policy", "--set", *ALLOWED]):
            if inside:
                person.run(*command)
            else:
                assert main([*common, *command]) == 0
        return person

    def _join(self, person: Person) -> None:
        (words,) = re.findall(r"^privity-client (join .*)$", self.server("invite"), re.MULTILINE)
        said = person.run(*words.split())
        person.member = int(re.findall(r"member (\d+)", said)[0])

    def _obedience(self) -> None:
        folder = self.folder / "obedience"
        folder.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(OBEDIENT)
        file = self.folder / "passphrase"
        file.touch(0o600)
        file.write_text(PASSPHRASE + "\n")


ALLOWED = (
    "least_cohort=3", "record_epsilon=none", "record_epsilon_round=none", f"models={MODEL}",
)  # fmt: skip


def _path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def bearing(mark: str) -> list[int]:
    """Processes that live, with these words in their environment or command line.

    How tests find their own processes: others of the same name may run on this machine.
    """
    found = []
    for process in processes():
        with contextlib.suppress(OSError):
            about = [Path(f"/proc/{process}/{one}").read_bytes() for one in ("environ", "cmdline")]
            if any(mark.encode() in one for one in about) and status(process)[0] != "Z":
                found.append(process)
    return found


def status(process: int) -> tuple[str, int]:
    """State letter and parent of a process."""
    text = Path(f"/proc/{process}/stat").read_text()
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)


def children(parent: int) -> list[int]:
    found = []
    for process in processes():
        with contextlib.suppress(OSError):
            if status(process)[1] == parent:
                found.append(process)
    return found


def zombies(parent: int) -> list[int]:
    """Dead children, and theirs, that nobody has waited for."""
    found = []
    for child in children(parent):
        with contextlib.suppress(OSError):
            found += [child] if status(child)[0] == "Z" else zombies(child)
    return found


def command_line(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
