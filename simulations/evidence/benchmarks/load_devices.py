"""Many devices in one process: each with its own keys, store, TLS connections and thread.

All of a device's way is the product's own code: enrolment, the Fleet API, the five legs, DP-SGD on
the tiny model. Three things differ from as many `privity-client` processes, so that two cores are
enough to play hundreds of devices: stores are in memory; the base model is one, so legs of one
process's devices are computed one after another; and what every device of a round must check anew
(the signatures of everybody's keys, and of everybody's confirmations) is checked once a process,
because `common/secagg/roster.py` remembers what it checked last.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

from flwr.app import Context

from client import app as client_app
from client.federation import membership
from client.federation.device import Device
from client.federation.joining import join
from client.federation.link import LinkLostError, connect
from client.federation.node import Node
from client.vault.store import Store
from common.settings import Settings
from common.tasks import task_of

WORDS = ("tea", "rain", "garden", "train", "music", "bread", "winter", "river", "story")
EXAMPLES = 4  # of each device
JOINING = 8  # devices of one process that join at a time
AGAIN_S = 1.0
Invite = tuple[str, str, str]  # address, code, fingerprint


def play(parent: Connection, invites: Sequence[Invite]) -> None:
    """The process: it takes a step when told, says when it has, and ends with the other end.

    The steps: get ready, join, connect and take part, end.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    crowd = Crowd()
    steps: tuple[Callable[[], None], ...] = (
        _get_ready, lambda: crowd.enrol(invites), crowd.take_part,
    )  # fmt: skip
    try:
        for step in steps:
            parent.recv()
            step()
            parent.send(len(crowd.devices))
        parent.recv()
    except EOFError:
        pass
    finally:
        crowd.end()
        parent.send({"lost_links_count": crowd.lost_links, "failures": crowd.failures})


class Crowd:
    """The devices of this process.

    Attributes:
        lost_links: How often a device found the federation out of reach.
        failures: What ended a device for good.
    """

    def __init__(self) -> None:
        self.devices: dict[int, Device] = {}
        self.lost_links = 0
        self.failures: list[str] = []
        self._ended, self._turn = threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []
        self._connected = threading.Semaphore(0)

    def enrol(self, invites: Sequence[Invite]) -> None:
        """Every device joins with its invite, some at a time."""
        with ThreadPoolExecutor(JOINING) as pool:
            self.devices = {one.member: one for one in pool.map(_join, invites)}

    def take_part(self) -> None:
        """Connect everybody; returns when all are connected."""
        client_app.serve(self._opened, client_app.unheard)
        for device in self.devices.values():
            thread = threading.Thread(target=self._serve, args=(device,), daemon=True)
            thread.start()
            self._threads.append(thread)
        for _ in self.devices:
            self._connected.acquire()

    def end(self) -> None:
        """Everybody goes offline."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _serve(self, device: Device) -> None:
        known, (_, node_key) = membership.membership(device.store), membership.keys(device.store)
        told = False
        while not self._ended.is_set():
            try:
                with connect(
                    urlsplit(known.url).netloc, known.ca_pem, node_key, known.member
                ) as link:
                    if not told:
                        self._connected.release()
                        told = True
                    Node(link, client_app.app, lambda _: None).serve(self._ended)
            except LinkLostError:
                self.lost_links += 1
                self._ended.wait(AGAIN_S * random.uniform(0.5, 1.5))  # noqa: S311
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                return

    @contextmanager
    def _opened(self, settings: Settings, context: Context) -> Iterator[Device]:  # noqa: ARG002
        with self._turn:
            yield self.devices[context.node_id]


def _join(invite: Invite) -> Device:
    """A new device that has joined, with made-up words of its own."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    store = Store(db, "a store in memory")
    membership.keep(store, join(*invite, *membership.keys(store)))
    member = membership.membership(store).member
    chance = random.Random(member)  # noqa: S311
    said = [" ".join(chance.choices(WORDS, k=4)) for _ in range(2 * EXAMPLES)]
    task, pairs = task_of(Settings().task), zip(said[::2], said[1::2], strict=True)
    examples = [task.spoken(*pair) for pair in pairs]
    return Device(member, examples, (), store, membership.identity(store))


def _get_ready() -> None:
    """Load the libraries and the model, once for all."""
    import torch

    from common.models import load_base

    torch.set_num_threads(1)
    load_base("tiny")
