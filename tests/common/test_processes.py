"""Processes that we start: whose code they run, which proxies they see, who reads their files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from client.commands.start import _detached
from common.errors import InputError, PrivityError
from common.system.processes import environment, python, script
from server.deployment.place import create
from server.deployment.superlink import Control, flower_place
from server.enrolment.nodes import Nodes
from simulations.engines import flower

PACKAGES = ("client", "common", "server", "simulations")
FOREIGN = (*PACKAGES, "json", "torch", "pip", "flwr", "sitecustomize", "usercustomize")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: somebody's own code, named as ours; each file tells when it is run."""
    folder = tmp_path / "somebody's"
    folder.mkdir()
    for name in FOREIGN:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("path", [None, os.pathsep, ".", f"{os.pathsep}/nowhere"])
@pytest.mark.parametrize("started", ["client", "server", "pip", "flower-superexec"])
def test_nothing_in_the_working_folder_is_run(
    hostile: Path, monkeypatch: pytest.MonkeyPatch, path: str | None, started: str
) -> None:
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    command = script(started, "--help") if "-" in started else python(started, "--help")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert not (hostile.parent / "ran").exists()
    assert done.returncode == 0
    assert "usage" in done.stdout.lower()


def test_the_device_in_the_background_runs_nothing_that_lies_beside_its_vault(
    hostile: Path,
) -> None:
    process = _detached(hostile, "correct horse battery")
    assert process.wait() == 2
    assert "There is no vault" in (hostile / "client.log").read_text()
    assert not (hostile.parent / "ran").exists()


def test_every_process_is_started_in_this_way() -> None:
    root = Path(__file__).parents[2]
    files = [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    naming = [file.relative_to(root) for file in files if "sys.executable" in file.read_text()]
    assert naming == [Path("common/system/processes.py")]


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A port, and the requests that came to it."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            heard.append(self.rfile.readline().decode(errors="replace"))
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("kind", ["http://127.0.0.1:{}", "socks5://127.0.0.1:{}", "127.0.0.1:{}"])
def test_no_proxy_is_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Neither by this process nor by one of Flower's, whose client takes what httpx finds."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org,[::1],fe80::/10,é")
    with listening() as (port, heard), listening() as (superlink, reached):
        for name in PROXIES:
            monkeypatch.setenv(name, kind.format(port))
        place = create(tmp_path / "ours")
        text = place.settings_file.read_text()
        own = place.settings().gateway.superlink_port
        place.settings_file.write_text(text.replace(f"= {own}", f"= {superlink}"))
        control = Control(flower_place(place))
        with pytest.raises(PrivityError, match="does not answer"):
            control.online()
        control.close()
        with pytest.raises(PrivityError, match="does not answer"):
            Nodes(flower_place(place).address, place.ca_certificate.read_bytes()).unregister(1)
        given = environment()
        for name in (*PROXIES, "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            if name in given:
                monkeypatch.setenv(name, given[name])
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{superlink}/")
    assert heard == []
    assert len(reached) == 3


@pytest.mark.parametrize("name", ["t", "t" * 60])
def test_rays_sockets_fit_whatever_the_folder_for_temporary_files_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A Unix socket's address has at most 107 bytes, of which Ray's own part takes 66."""
    place = tmp_path / name
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    made = flower._temporary_folder()
    made.rmdir()
    assert len(os.fsencode(made / "r/ray")) <= 107 - 66


def test_without_a_short_folder_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("t" * 60)))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="Set TMPDIR to one of at most"):
        flower._temporary_folder()
