"""What `up` does besides rounds: a certificate near its end, a port that is taken."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from deployment import free_port, wait_for

from client.federation.joining import trusting
from common.errors import InputError, PrivityError
from server.deployment import certificates, figures, renewal, supervisor
from server.deployment.journal import Journal
from server.deployment.place import Place, create
from server.deployment.renewal import DAY_S, PATIENCE_S, Renewal
from server.deployment.superlink import Control, flower_place
from server.deployment.supervisor import Part, PartFailedError, Supervisor
from server.deployment.up import _signals, up
from server.registry.goal import one_round

PATIENCE = 60.0


def old_certificate(place: Place) -> None:
    """One that has 17 days left."""
    begun = datetime.now(UTC) - timedelta(days=380)
    old = certificates.new_server(place.ca(), (), begun)
    place.server_pem.write_bytes(old.certificate_pem() + old.key_pem())


def shown(place: Place, port: int) -> int:
    """The serial number of the certificate that is shown at a port."""
    trust = trusting(place.ca_certificate.read_bytes())
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as found,
    ):
        der = found.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der).serial_number


def kept(place: Place) -> int:
    return place.server().certificate.serial_number


class Parts:
    """A supervisor that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def end(self, name: str) -> None:
        self.told.append(f"end {name}")

    def send(self, name: str, signum: signal.Signals) -> None:
        self.told.append(f"{signum.name} {name}")


def test_a_certificate_near_its_end_is_renewed_while_up(tmp_path: Path) -> None:
    place, parts, now, said = create(tmp_path / "ours"), Parts(), [0.0], []
    tended = Renewal(place, parts, said.append, lambda: now[0])  # type: ignore[arg-type]
    now[0] = DAY_S
    tended.tend()
    assert parts.told == said == []  # it has a year left
    old_certificate(place)
    serial = kept(place)
    now[0] = 2 * DAY_S - 1
    tended.tend()
    assert kept(place) == serial
    now[0] = 2 * DAY_S
    tended.tend()
    assert kept(place) != serial and parts.told == ["end superlink", "SIGHUP gateway"]
    assert len(said) == 1


def test_it_waits_for_the_end_of_a_round_but_not_for_ever(tmp_path: Path) -> None:
    place, parts, now = create(tmp_path / "ours"), Parts(), [0.0]
    tended = Renewal(place, parts, lambda _: None, lambda: now[0])  # type: ignore[arg-type]
    old_certificate(place)
    with one_round(place.federation):
        for now[0] in (DAY_S, DAY_S + PATIENCE_S - 1):
            tended.tend()
        assert parts.told == []
        now[0] = DAY_S + PATIENCE_S
        tended.tend()
    assert parts.told


def test_a_federation_whose_authority_is_put_away_stays_up(tmp_path: Path) -> None:
    place, parts, now, said = create(tmp_path / "ours"), Parts(), [0.0], []
    tended = Renewal(place, parts, said.append, lambda: now[0])  # type: ignore[arg-type]
    place.ca_key.unlink()
    for now[0] in (DAY_S, DAY_S + 1, 2 * DAY_S):
        tended.tend()
    assert len(said) == 2 and all("ca.key cannot be read" in words for words in said)
    assert parts.told == []


@contextmanager
def gateway(place: Place) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "server.deployment.gateway_process", str(place.folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def port_of(place: Place) -> int:
    wait_for(lambda: figures.read(place.log / figures.GATEWAY), PATIENCE, "the gateway")
    return int(figures.read(place.log / figures.GATEWAY)["port"])


def test_the_gateway_takes_up_a_new_certificate(tmp_path: Path) -> None:
    place = create(tmp_path / "ours", port=0)
    old_certificate(place)
    serial = kept(place)
    with gateway(place) as process:
        port = port_of(place)
        assert shown(place, port) == serial
        assert place.renew(())
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: shown(place, port) == kept(place), PATIENCE, "the new certificate")
        assert process.poll() is None


def test_a_gateway_whose_port_is_taken_says_so_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place = create(tmp_path / "ours", port=port)
        with gateway(place) as process:
            assert process.wait(PATIENCE) == 2
            assert process.stderr
            (line,) = process.stderr.read().splitlines()
    assert f"port {port}" in line and "[gateway]" in line


def test_what_a_part_refuses_for_ends_the_start(tmp_path: Path) -> None:
    """In its words, at once; whatever else ends is started again."""
    tries = tmp_path / "tries"
    shaky = f"import sys, pathlib; p = pathlib.Path({str(tries)!r}); n = len(p.read_text())"
    shaky += " if p.exists() else 0; p.write_text('x' * (n + 1)); sys.exit(1)"
    refusing = "import sys; print('Nothing can listen.', file=sys.stderr); sys.exit(2)"

    again = threading.Event()
    started(tmp_path, shaky, again, lambda: tries.exists() and len(tries.read_text()) == 2)
    with pytest.raises(InputError, match=r"^Nothing can listen\.$"):
        started(tmp_path, refusing, again, lambda: False)


def started(tmp_path: Path, code: str, ended: threading.Event, ready: Callable[[], bool]) -> str:
    """What the log says after a part with this code was started."""
    journal = Journal(tmp_path / "log", aloud=False)
    command = [sys.executable, "-c", code]
    parts = Supervisor([Part("one", command, os.environ, tmp_path, ready)], journal)
    try:
        parts.start(ended, slow_s=0.0)
    finally:
        parts.stop()
        journal.close()
    return (tmp_path / "log").read_text()


def test_a_part_that_lives_is_waited_for_and_the_log_says_so(tmp_path: Path) -> None:
    looks = iter([False, False, False, True])
    log = started(tmp_path, "import time; time.sleep(600)", threading.Event(), lambda: next(looks))
    assert log.count("the one is starting still") == 3


def test_a_part_that_dies_again_and_again_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MOST_RESTARTS", 1)
    with pytest.raises(PartFailedError, match="ended 2 times before it was ready: no such library"):
        started(tmp_path, "exit('no such library')", threading.Event(), lambda: False)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_signal_that_asks_to_end_does_also_while_parts_start(
    tmp_path: Path, signum: signal.Signals
) -> None:
    ended = threading.Event()
    before = signal.signal(signum, signal.SIG_DFL)
    try:
        with _signals(ended):
            os.kill(os.getpid(), signum)
            log = started(tmp_path, "import time; time.sleep(600)", ended, lambda: False)
        assert ended.is_set() and "is started again" not in log
    finally:
        signal.signal(signum, before)


def test_under_nohup_a_lost_terminal_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _signals(ended := threading.Event()):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not ended.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def running(place: Place) -> Iterator[threading.Event]:
    ended, errors = threading.Event(), []

    def serve() -> None:
        try:
            up(place, ended=ended)
        except PrivityError as error:
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ended
    finally:
        ended.set()
        thread.join(PATIENCE)
    if errors:
        raise errors[0]


def small(folder: Path) -> Place:
    """A federation with ports of its own and no dashboard."""
    place = create(folder, port=free_port())
    text = place.settings_file.read_text()
    superlink = place.settings().gateway.superlink_port
    dashboard = place.settings().dashboard.port
    text = text.replace(f"superlink_port = {superlink}", f"superlink_port = {free_port()}")
    place.settings_file.write_text(text.replace(f"port = {dashboard}", "port = 0"))
    return place


def logged(place: Place, words: str) -> Callable[[], bool]:
    log = place.log / "privity.log"
    return lambda: log.exists() and words in log.read_text()


@pytest.mark.long
def test_both_ports_show_the_new_certificate_and_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "DAY_S", 1.0)
    place = small(tmp_path / "ours")
    flower = flower_place(place)
    with running(place):
        wait_for(logged(place, "up        ready"), 2 * PATIENCE, "the federation")
        before = kept(place)
        assert shown(place, flower.port) == shown(place, port_of(place)) == before
        old_certificate(place)
        wait_for(lambda: kept(place) != before and logged(place, "renewed")(), PATIENCE, "renewal")

        def changed() -> bool:
            try:
                return shown(place, flower.port) == shown(place, port_of(place)) == kept(place)
            except (OSError, ssl.SSLError):
                return False

        wait_for(changed, PATIENCE, "the new certificate")
        control = Control(flower)
        assert control.online() == []
        control.close()


@pytest.mark.long
def test_up_ends_where_the_port_is_taken_whatever_was_left(tmp_path: Path) -> None:
    place = small(tmp_path / "ours")
    port = place.settings().gateway.port
    (place.log / figures.GATEWAY).write_text(json.dumps({"port": port}))  # of one killed with -9
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(InputError, match=f"port {port}.*\\[gateway\\]"),
        running(place) as ended,
    ):
        wait_for(logged(place, "shutting down"), 2 * PATIENCE, "the end")
        assert not ended.is_set()
    assert not logged(place, "up        ready")()
