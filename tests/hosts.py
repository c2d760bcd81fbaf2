"""Hosts of their own on one machine, and somebody who watches all that they send.

Each host is a network namespace. They meet on a bridge in one more namespace, the outside, which is
everybody's default route and everybody's resolver. Whatever is not from one host to another is
therefore sent there, and read from the bridge's ports. Needs Linux, root and `ip`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000  # sched.h
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 3, 0x0800, 0x86DD
SOL_PACKET, PACKET_STATISTICS, SO_ATTACH_FILTER, SO_RCVBUFFORCE = 263, 6, 26, 33
TCP, UDP, ICMP6, HOP_BY_HOP = 6, 17, 58, 0
LISTENING = "0A"  # state in /proc/net/tcp
NOWHERE = "203.0.113.9"  # RFC 5737: what the resolver answers for any name
NOWHERE6 = "2001:db8::9"  # RFC 3849
OUTSIDE, OUTSIDE6 = "10.77.0.1", "fd77::1"
HEAD_BYTES = 64  # of a packet: IP header and ports


def missing() -> str:
    """What this machine lacks for hosts of their own; empty when it lacks nothing."""
    if sys.platform != "linux":
        return f"network namespaces are Linux's, and this is {sys.platform}"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    if not shutil.which("ip"):
        return "`ip` (iproute2) is not installed"
    name = f"privity-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return f"no network namespace can be made: {made.stderr.strip()}" if made.returncode else ""


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with one address of each kind."""

    name: str
    address: str
    address6: str

    @property
    def inside(self) -> list[str]:
        """The words that have a command run there, with its own /etc/resolv.conf."""
        return ["ip", "netns", "exec", self.name]

    def do(self, act: Callable[[], Any]) -> Any:
        """What `act` returns in a thread that is there; its sockets stay there."""
        found: list[Any] = []

        def enter_and_act() -> None:
            try:
                with Path("/run/netns", self.name).open() as place:
                    libc = ctypes.CDLL(None, use_errno=True)
                    assert libc.setns(place.fileno(), CLONE_NEWNET) == 0, ctypes.get_errno()
                found.append((act(), None))
            except BaseException as error:
                found.append((None, error))

        thread = threading.Thread(target=enter_and_act)
        thread.start()
        thread.join()
        ((answer, error),) = found
        if error:
            raise error
        return answer


@dataclass(slots=True)
class Watcher:
    """All that hosts sent to anything but each other, and every name that they asked for.

    Neighbour discovery (ARP, ICMPv6) is the kernel's own and is left out.
    """

    ours: frozenset[str]
    sent: set[tuple[str, str, int, int]] = field(default_factory=set)  # from, to, protocol, port
    asked: list[tuple[str, str]] = field(default_factory=list)  # from, name
    _packets: socket.socket | None = None
    _threads: list[threading.Thread] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def listen(self) -> None:
        """To be called on the outside."""
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        _attach(packets, _elsewhere(self.ours))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for one in (datagrams, streams):
            one.bind((OUTSIDE, 53))
        streams.listen()
        self._packets = packets
        for work, one in ((self._see, packets), (self._answer, datagrams), (self._take, streams)):
            self._threads.append(threading.Thread(target=self._repeat, args=(work, one)))
            self._threads[-1].start()

    def missed(self) -> int:
        """Packets that came too fast to be read; nothing is shown unless this is 0."""
        assert self._packets
        _, dropped = struct.unpack("II", self._packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return int(dropped)

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[socket.socket], None], one: socket.socket) -> None:
        with one:
            one.settimeout(0.2)
            while not self._ended.is_set():
                with contextlib.suppress(OSError):  # nothing came
                    work(one)

    def _see(self, packets: socket.socket) -> None:
        packet, (interface, _, kind, *_) = packets.recvfrom(HEAD_BYTES)
        if not interface.startswith("port") or kind == socket.PACKET_OUTGOING:
            return
        if packet[0] >> 4 == 4:
            source, target = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
            protocol, rest = packet[9], packet[4 * (packet[0] & 15) :]
        elif packet[0] >> 4 == 6:
            source, target = (
                socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24)
            )
            protocol, rest = packet[6], packet[40:]
        else:  # ARP
            return
        if target not in self.ours and protocol not in (ICMP6, HOP_BY_HOP):
            port = struct.unpack("!H", rest[2:4])[0] if protocol in (TCP, UDP) else 0
            self.sent.add((source, target, protocol, port))

    def _answer(self, datagrams: socket.socket) -> None:
        query, peer = datagrams.recvfrom(4096)
        self.asked.append((peer[0], _name(query)))
        datagrams.sendto(_answer(query), peer)

    def _take(self, streams: socket.socket) -> None:
        stream, peer = streams.accept()
        with stream:
            stream.settimeout(2)
            self.asked.append((peer[0], _name(stream.recv(4096)[2:])))


def _elsewhere(ours: Iterable[str]) -> list[tuple[int, int, int, int]]:
    """A classic BPF program (linux/filter.h) that takes IP packets to anything but `ours`.

    The kernel leaves the hosts' packets to each other out, however many there are, so that
    none of the others is lost to a watcher that was given no time.
    """
    load, equal, give = 0x20, 0x15, 0x06  # of a word, jump if equal, return
    kind, protocol = 0xFFFFF004, 0xFFFFF000  # SKF_AD_PKTTYPE, SKF_AD_PROTOCOL
    none, whole = (give, 0, 0, 0), (give, 0, 0, 0xFFFFFFFF)

    def unless(*words: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """Ends with nothing where each word, at its place, is as said; goes on otherwise."""
        left = range(2 * len(words) - 1, 0, -2)
        tests = [
            part
            for (at, word), far in zip(words, left, strict=True)
            for part in ((load, 0, 0, at), (equal, 0, far, word))
        ]
        return [*tests, none]

    def target(address: str) -> list[tuple[int, int]]:
        family, at = (socket.AF_INET6, 24) if ":" in address else (socket.AF_INET, 16)
        raw = socket.inet_pton(family, address)
        return [(at + n, int.from_bytes(raw[n : n + 4])) for n in range(0, len(raw), 4)]

    parts = [unless((kind, socket.PACKET_OUTGOING))]
    for version, mark in ((ETH_P_IP, "."), (ETH_P_IPV6, ":")):
        tests = [test for one in sorted(ours) if mark in one for test in unless(*target(one))]
        parts.append([(load, 0, 0, protocol), (equal, 1, 0, version), (0x05, 0, 0, len(tests) + 1)])
        parts.append([*tests, whole])
    return [*(step for part in parts for step in part), none]


def _attach(packets: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    about = struct.pack("@HP", len(program), ctypes.addressof(steps))
    packets.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, about)


def _name(query: bytes) -> str:
    """The name in a DNS query (RFC 1035, 4.1)."""
    labels, at = [], 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels)


def _answer(query: bytes) -> bytes:
    """`NOWHERE` for a name's A record, no other record: who asks also goes there, and is seen."""
    end = query.index(0, 12) + 5
    wants_a = query[end - 4 : end - 2] == b"\0\1"
    head = query[:2] + b"\x81\x80\0\1" + bytes([0, wants_a]) + bytes(4)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4" + socket.inet_aton(NOWHERE) if wants_a else b""
    return head + query[12:end] + record


@dataclass(slots=True)
class Network:
    """Hosts on one bridge."""

    outside: Host
    hosts: list[Host]
    watcher: Watcher

    def cable(self, host: Host, state: str) -> None:
        """Pull a host's cable ("down"), or plug it in again ("up")."""
        _ip("-n", self.outside.name, "link", "set", f"port{self.hosts.index(host)}", state)


@contextlib.contextmanager
def network(count: int) -> Iterator[Network]:
    """So many hosts, 10.77.0.2 and on; whatever happens, nothing of them stays."""
    _remove_stale()
    tag = f"privity-{os.getpid()}"
    outside = Host(f"{tag}-outside", OUTSIDE, OUTSIDE6)
    hosts = [
        Host(f"{tag}-host{number}", f"10.77.0.{number + 2}", f"fd77::{number + 2}")
        for number in range(count)
    ]
    ours = {address for host in hosts for address in (host.address, host.address6)}
    watcher = Watcher(frozenset(ours))
    try:
        _lay_out(outside, hosts)
        outside.do(watcher.listen)
        yield Network(outside, hosts, watcher)
    finally:
        watcher.close()
        for host in (*hosts, outside):
            _remove(host.name)


def _lay_out(outside: Host, hosts: Sequence[Host]) -> None:
    _ip("netns", "add", outside.name)
    out = ("-n", outside.name)
    _ip(*out, "link", "set", "lo", "up")
    _ip(*out, "link", "add", "bridge", "type", "bridge")
    _quiet(*out, device="bridge")
    _addressed(*out, device="bridge", address=OUTSIDE, address6=OUTSIDE6)
    for number, host in enumerate(hosts):
        _ip("netns", "add", host.name)
        here, port = ("-n", host.name), f"port{number}"
        _ip(*here, "link", "set", "lo", "up")
        _ip(*out, "link", "add", port, "type", "veth", "peer", "name", "cable", "netns", host.name)
        _quiet(*out, device=port)
        _quiet(*here, device="cable")
        _ip(*out, "link", "set", port, "master", "bridge", "up")
        _addressed(*here, device="cable", address=host.address, address6=host.address6)
        _ip(*here, "route", "add", "default", "via", OUTSIDE)
        _ip(*here, "-6", "route", "add", "default", "via", OUTSIDE6)
        folder = Path("/etc/netns", host.name)  # which `ip netns exec` puts over /etc
        while not folder.exists():  # others who are done may remove an empty /etc/netns meanwhile
            with contextlib.suppress(FileNotFoundError):
                folder.mkdir(parents=True)
        (folder / "resolv.conf").write_text(f"nameserver {OUTSIDE}\n")


def _quiet(*where: str, device: str) -> None:
    """No address that the kernel makes up, and asks the others about."""
    _ip(*where, "link", "set", device, "addrgenmode", "none")


def _addressed(*where: str, device: str, address: str, address6: str) -> None:
    _ip(*where, "address", "add", f"{address}/24", "dev", device)
    _ip(*where, "address", "add", f"{address6}/64", "dev", device, "nodad")
    _ip(*where, "link", "set", device, "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def _remove(name: str) -> None:
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    shutil.rmtree(Path("/etc/netns", name), ignore_errors=True)
    with contextlib.suppress(OSError):
        Path("/etc/netns").rmdir()  # where it was ours alone


def _remove_stale() -> None:
    """What a test that was killed left behind."""
    for place in Path("/run/netns").glob("privity-*"):
        if not Path("/proc", place.name.split("-")[1]).exists():
            _remove(place.name)


def listening(process: int) -> set[tuple[str, int]]:
    """Addresses and TCP ports that answer on the host of a process."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            _, place, _, state, *_ = line.split()
            if state == LISTENING:
                digits, _, port = place.partition(":")
                found.add((_address(digits), int(port, 16)))
    return found


def unconnected(process: int) -> set[tuple[str, int]]:
    """The same for UDP."""
    lines = [
        line.split()[1]
        for table in ("udp", "udp6")
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]
    ]
    return {
        (_address(place.partition(":")[0]), int(place.partition(":")[2], 16)) for place in lines
    }


def _address(digits: str) -> str:
    """As /proc has it: words of 32 bits in the machine's order."""
    raw = bytes.fromhex(digits)
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, struct.pack(f"!{len(words)}I", *words))


def answers(address: str, port: int, patience_s: float = 2.0) -> bool:
    """Whether something takes a connection."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(patience_s)
        return probe.connect_ex((address, port)) == 0


def send(address: str, port: int) -> None:
    """One datagram."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.sendto(b"?", (address, port))
