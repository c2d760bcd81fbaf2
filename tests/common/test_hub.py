"""A model that is not on this machine: the hub's answer, or none, is a sentence within seconds."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from common.errors import InputError
from common.models import hub as models_hub
from common.models import load_config


class Hub(BaseHTTPRequestHandler):
    """Answers as huggingface.co does, by the name of the model."""

    def do_HEAD(self) -> None:
        _, _, kind, *_ = self.path.split("/")
        status, code = {
            "gated": (403, "GatedRepo"), "none": (401, "RepoNotFound"),
            "bare": (404, "EntryNotFound"), "broken": (503, ""),
        }[kind]  # fmt: skip
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "an answer")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def use(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does for a process of one's own."""
    template = f"{hub}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    use(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("owner/gated", "is gated.*hf auth login"),
        ("owner/none", "no such model on .*Check the spelling"),
        ("no model's name", "no such model on .*Check the spelling"),
        ("owner/bare", "has no config.json"),
        ("owner/broken", "answered with status 503"),
    ],
)
def test_each_answer_has_its_own_sentence(
    hub: str, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        load_config(name)
    assert capsys.readouterr().err == f"Asking {hub} for {name} …\n"


def test_a_hub_that_hangs_is_left_and_one_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, hub: str
) -> None:
    monkeypatch.setattr(models_hub, "HUB_ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_hub = f"http://127.0.0.1:{silent.getsockname()[1]}"
        use(silent_hub, monkeypatch)
        with pytest.raises(InputError, match=f"{silent_hub} did not answer within"):
            load_config("owner/hangs")
    with pytest.raises(InputError, match=f"{silent_hub} cannot be reached .ConnectError."):
        load_config("owner/hangs")


def test_a_proxy_that_cannot_be_used_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, hub: str
) -> None:
    from huggingface_hub import close_session

    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    close_session()  # it is made anew, with the proxies of now
    try:
        with pytest.raises(InputError, match=r"cannot be reached.*its proxy"):
            load_config("owner/none")
    finally:
        monkeypatch.undo()
        close_session()
