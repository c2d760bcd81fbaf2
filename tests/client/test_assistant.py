"""The assistant: engines answer alike, leave nothing behind, and a person can talk to them."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_base import write_base

from client.assistant import engine as engines
from client.assistant import llamacpp, terminal, unseen
from client.assistant.engine import BASE, ChatMessage, Engine, Scales, conversation_ids, open_engine
from client.assistant.torch_engine import pick
from client.learning.personal import paired_gain, train
from common.adapter.plan import BOTH
from common.adapter.weights import Personal, Shared
from common.errors import InputError
from common.learning.backbone import adapter_plans
from common.models import load_base, load_tokenizer, model_files
from common.records.records import Record, record_of
from common.settings import Settings
from common.tasks.language import LanguageScore

HELLO: list[ChatMessage] = [{"role": "user", "content": "hello"}]
MARK = 12345.678  # an adapter weight that no other bytes are


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model as a folder with a GGUF."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(model_files("tiny"), folder)
    write_base(load_base("tiny"), load_tokenizer("tiny"), folder / "base.gguf")
    return str(folder)


def settings_for(model: str, **changes: Any) -> Settings:
    return Settings.of(model=model, layers=0, users=3, examples=16, personal_epochs=3, **changes)


def adapters(settings: Settings) -> tuple[Shared, Personal]:
    shared, personal = adapter_plans(settings)
    chance = np.random.default_rng(0)

    def drawn(size: int) -> Any:
        return chance.normal(scale=0.3, size=size).astype(np.float32)

    return Shared(shared, drawn(shared.dimension)), Personal(personal, drawn(personal.size(BOTH)))


@pytest.fixture(params=["llama.cpp", "PyTorch"])
def engine(request: pytest.FixtureRequest, model: str) -> Iterator[Engine]:
    settings = settings_for(model if request.param == "llama.cpp" else "tiny")
    engine = open_engine(settings, *adapters(settings), threads=1)
    assert engine.description.startswith(request.param)
    yield engine
    engine.close()


def text(engine: Engine, **options: Any) -> str:
    return "".join(engine.reply(HELLO, max_tokens=12, **options))


# one conformance suite for both engines


def test_a_seed_gives_the_same_answer_and_another_another(engine: Engine) -> None:
    answers = {seed: text(engine, temperature=1.0, seed=seed) for seed in (1, 2)}
    assert text(engine, temperature=1.0, seed=1) == answers[1] != answers[2]
    assert text(engine, temperature=1.0) != text(engine, temperature=1.0)


def test_temperature_zero_takes_the_likeliest(engine: Engine) -> None:
    assert text(engine, temperature=0.0, seed=1) == text(engine, temperature=0.0, seed=2) != ""


def test_scales_choose_the_adapters_and_leave_no_trace(engine: Engine) -> None:
    """Also in what is cached of the same prompt: each comes out as it did the first time."""
    choices = (Scales(), BASE, Scales(1, 0), Scales(0, 1))
    first = [engine.log_likelihood([*HELLO, answer("well")], scales=s) for s in choices]
    assert len({round(value, 3) for value in first}) == 4
    for scales, value in reversed(list(zip(choices, first, strict=True))):
        again = engine.log_likelihood([*HELLO, answer("well")], scales=scales)
        assert again == pytest.approx(value, abs=1e-4)


def test_an_answer_can_be_stopped_and_the_next_one_is_whole(engine: Engine) -> None:
    whole = text(engine, temperature=0.0)
    pieces = engine.reply(HELLO, max_tokens=400, temperature=0.0)
    next(pieces)
    pieces.close()
    assert text(engine, temperature=0.0) == whole


@pytest.mark.parametrize("name", ["llama.cpp", "PyTorch"])
def test_an_answer_ends_where_the_model_ends_it(name: str, tmp_path: Path) -> None:
    """A model whose greedy answer has 18 tokens. Oracle: transformers' own generation."""
    changed, tokenizer = load_base("tiny"), load_tokenizer("tiny")
    with torch.no_grad():
        rows: Any = changed.get_input_embeddings().weight
        rows[tokenizer.eos_token_id] = 1.1 * rows[200]
        ids = torch.tensor([conversation_ids(HELLO, tokenizer, 400)])
        truth = changed.generate(ids, max_new_tokens=60, do_sample=False)[0, ids.shape[1] :]
    assert truth[-1] == tokenizer.eos_token_id
    assert len(truth) < 30

    changed.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    if name == "llama.cpp":
        write_base(changed, tokenizer, tmp_path / "base.gguf")
        engine: Engine = llamacpp.LlamaCppEngine(str(tmp_path), {}, threads=1, exact=True)
    else:
        engine = open_engine(settings_for(str(tmp_path)))
    whole = "".join(engine.reply(HELLO, max_tokens=60, temperature=0.0))
    assert "im_end" not in whole
    assert whole == "".join(engine.reply(HELLO, max_tokens=len(truth) + 1, temperature=0.0))
    assert len(whole) < 30


def test_a_long_conversation_loses_its_oldest_turns(engine: Engine) -> None:
    long: list[ChatMessage] = []
    for _ in range(30):
        long += [{"role": "user", "content": "tea and rain"}, answer("a garden")]
    assert list(engine.reply([*long, *HELLO], max_tokens=4, temperature=0.0))
    with pytest.raises(InputError, match="tokens"):
        engine.reply([{"role": "user", "content": "x" * 1000}])


def test_a_closed_engine_says_so(engine: Engine) -> None:
    with engine:
        assert text(engine)
    with pytest.raises(Exception, match="closed"):
        text(engine)
    with pytest.raises(Exception, match="closed"):
        engine.log_likelihood([*HELLO, answer("well")])


@pytest.mark.parametrize("messages", [[], [{"role": "boss", "content": "secret"}]])
def test_what_is_no_conversation_is_refused(engine: Engine, messages: Any) -> None:
    with pytest.raises(InputError) as error:
        engine.reply(messages)
    assert "secret" not in str(error.value)


def answer(words: str) -> ChatMessage:
    return {"role": "assistant", "content": words}


def test_both_engines_take_the_same_tokens(model: str) -> None:
    """Greedy, in exact arithmetic: the same text."""
    settings = settings_for(model)
    shared, personal = adapters(settings)
    loaded = {
        "shared": engines.Loaded(shared.plan, engines.whole(shared)),
        "personal": engines.Loaded(personal.plan, personal.vector),
    }
    native = llamacpp.LlamaCppEngine(model, loaded, threads=1, exact=True)
    torch_engine = engines_torch(settings, loaded)
    assert text(native, temperature=0.0) == text(torch_engine, temperature=0.0)
    native.close()


def engines_torch(settings: Settings, loaded: Any) -> Engine:
    from client.assistant.torch_engine import TorchEngine

    return TorchEngine(settings, loaded)


# which engine, and what it leaves behind


def test_the_choice_is_said_in_one_line(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, hidden, words in (
        ("tiny", False, "because the model has no GGUF file"),
        (model, True, "because xllamacpp is not installed"),
    ):
        with monkeypatch.context() as patch:
            if hidden:
                patch.setattr(engines, "find_spec", lambda _: None)
            opened = open_engine(settings_for(name))
        assert opened.description.endswith(words)
        assert "\n" not in opened.description
        assert opened.adapters == ()


def test_a_gguf_that_cannot_be_loaded_is_not_the_end(model: str, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    (tmp_path / "m" / "base.gguf").write_bytes(b"GGUF nonsense")
    opened = open_engine(settings_for(str(tmp_path / "m")))
    assert opened.description.endswith("because llama.cpp cannot load base.gguf")


def test_other_families_are_served_by_pytorch(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=128)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    load_tokenizer("tiny").save_pretrained(tmp_path)
    (tmp_path / "some.gguf").touch()
    settings = settings_for(str(tmp_path), modules="c_attn", personal_modules="c_attn")
    opened = open_engine(settings, *adapters(settings))
    assert "'gpt2' models cannot be written as GGUF" in opened.description
    assert isinstance("".join(opened.reply(HELLO, max_tokens=3)), str)


LEAVES = """
import os, sys
from client.assistant.engine import open_engine
sys.path[:0] = {tests!r}
from test_assistant import HELLO, adapters, marked, settings_for
settings = settings_for({model!r})
before = set(os.listdir("/proc/self/fd"))
engine = open_engine(settings, *marked(settings), threads=1)
assert engine.description.startswith("llama.cpp"), engine.description
list(engine.reply(HELLO, max_tokens=3))
left = [os.readlink(f"/proc/self/fd/{{n}}") for n in set(os.listdir("/proc/self/fd")) - before
        if os.path.lexists(f"/proc/self/fd/{{n}}")]
print([name for name in left if "memfd" in name or name.startswith(os.environ["TMPDIR"])])
print(engine._server.listening_address, flush=True)
sys.stdin.read()
"""


def marked(settings: Settings) -> tuple[Shared, Personal]:
    shared, personal = adapters(settings)
    return shared, Personal(personal.plan, np.full_like(personal.vector, MARK))


@pytest.fixture
def running(model: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path, list[str]]]:
    """Another process with an engine, its temporary folder, and the lines it said."""
    folder = tmp_path / ("long" * 30)  # longer than a socket's address may be
    folder.mkdir()
    script = LEAVES.format(tests=list(map(str, Path(__file__).parents[:2])), model=model)
    environment = os.environ | {"TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdin and process.stdout
    lines = [process.stdout.readline().strip() for _ in range(2)]
    yield process, folder, lines
    process.stdin.close()
    assert process.wait(timeout=30) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_remains_and_nobody_can_connect(
    running: tuple[subprocess.Popen[str], Path, list[str]],
) -> None:
    """While the engine runs: no file, no anonymous memory, no port, no socket with a name."""
    process, folder, (descriptors, address) = running
    assert descriptors == "[]"
    assert list(folder.rglob("*")) == []
    assert address.startswith("unix://")
    assert not Path(address.removeprefix("unix://")).exists()
    links = [str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
    own = {link[len("socket:[") : -1] for link in links if link.startswith("socket:")}
    assert own  # llama.cpp's server does listen
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
        assert not own & {line.split()[9] for line in lines}


@pytest.mark.parametrize("anonymous", [True, False])
def test_an_unseen_file_is_its_owners_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anonymous: bool
) -> None:
    if anonymous and not hasattr(os, "memfd_create"):
        pytest.skip("Linux only")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    content = np.float32(MARK).tobytes() * 1000
    with unseen.unseen_file(content, anonymous=anonymous) as path:
        assert Path(path).read_bytes() == content
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert len(files) == (0 if anonymous else 1)
        for file in files:
            assert file.stat().st_mode & 0o777 == 0o600
            assert file.parent.stat().st_mode & 0o777 == 0o700
    assert not Path(path).exists()
    assert list(tmp_path.iterdir()) == []


def test_an_unseen_file_goes_when_loading_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(ZeroDivisionError), unseen.unseen_file(b"x", anonymous=False):
        assert list(tmp_path.iterdir())
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_signals_stay_with_python(model: str) -> None:
    """xllamacpp takes SIGINT and SIGTERM for itself; a second Ctrl-C would end the process."""
    got: list[int] = []
    before = {n: signal.signal(n, lambda n, _: got.append(n)) for n in SIGNALS}
    try:
        engine = open_engine(settings_for(model), threads=1)
        for number in (*SIGNALS, *SIGNALS):
            os.kill(os.getpid(), number)
        assert got == [*SIGNALS, *SIGNALS]
        assert text(engine, temperature=0.0)
        engine.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


SIGNALS = (signal.SIGINT, signal.SIGTERM)


def test_errors_do_not_quote_the_conversation() -> None:
    quoting = {"error": {"code": 400, "message": "could not parse: my secret"}}
    with pytest.raises(Exception, match="code 400") as error:
        llamacpp._refuse(quoting)
    assert "secret" not in str(error.value)


# sampling and truncation


def test_sampling_takes_only_the_top() -> None:
    logits = torch.linspace(0, 5, 100)
    generator = torch.Generator().manual_seed(0)
    drawn = {pick(logits, 1.0, generator) for _ in range(2000)}
    order = logits.argsort(descending=True)[: engines.TOP_K]
    chances = logits[order].softmax(-1)
    inside = int((chances.cumsum(-1) < engines.TOP_P).sum()) + 1
    assert drawn == set(order[:inside].tolist())


def test_a_lower_temperature_prefers_the_likeliest() -> None:
    logits = torch.tensor([1.0, 0.0])
    counts = {}
    for temperature in (0.5, 2.0):
        generator = torch.Generator().manual_seed(0)
        counts[temperature] = sum(pick(logits, temperature, generator) for _ in range(4000))
    for temperature, count in counts.items():
        expected = 4000 / (1 + np.exp(1 / temperature))
        assert abs(count - expected) < 4 * np.sqrt(expected)  # four standard deviations


def test_truncation_keeps_the_system_message_and_starts_with_a_question() -> None:
    tokenizer = load_tokenizer("tiny")
    messages: list[ChatMessage] = [{"role": "system", "content": "be kind"}]
    for number in range(5):
        messages += [{"role": "user", "content": f"question {number}"}, answer(f"reply {number}")]
    messages.append({"role": "user", "content": "last"})
    ids = conversation_ids(messages, tokenizer, 150)
    kept = tokenizer.decode(ids)
    assert len(ids) <= 150
    assert "be kind" in kept
    assert "last" in kept
    assert "question 0" not in kept
    assert kept.index("question 4") < kept.index("reply 4")
    assert "reply 3" not in kept or "question 3" in kept


# the conversation


class Scripted(Engine):
    """An engine that answers what it is told to, or is interrupted."""

    def __init__(self, *answers: list[str | type[BaseException]]) -> None:
        super().__init__("scripted", load_tokenizer("tiny"), 400, ("shared", "personal"))
        self.answers, self.asked, self.closed = list(answers), [], 0

    def reply(self, messages: Any, **_: Any) -> Any:
        self.asked.append([dict(message) for message in messages])
        return self._pieces(self.answers.pop(0))

    def _pieces(self, answer: list[Any]) -> Any:
        try:
            for piece in answer:
                if not isinstance(piece, str):
                    raise piece
                yield piece
        finally:
            self.closed += 1

    token_log_likelihoods = _generate = close = None  # type: ignore[assignment]


class Keyboard(io.StringIO):
    """Lines, and Ctrl-C where there is the line ^C."""

    def readline(self, *_: Any) -> str:
        if (line := super().readline()) == "^C\n":
            raise KeyboardInterrupt
        return line


def talk(engine: Engine, *lines: str) -> str:
    output = io.StringIO()
    terminal.chat(engine, Keyboard("".join(f"{line}\n" for line in lines)), output)
    return output.getvalue()


def test_the_first_line_says_what_answers_and_where_the_text_goes() -> None:
    first = talk(Scripted(), "/quit").splitlines()[0]
    assert first.startswith("scripted, with the shared and personal adapters.")
    assert "goes nowhere" in first


def test_a_conversation_goes_on_and_starts_anew() -> None:
    engine = Scripted(["He", "llo"], ["[bold]fine[/bold]"], ["new"])
    output = talk(engine, "hi", "", "and you?", "/help", "/nonsense", "/new", "hi", "/quit", "hi")
    assert "Hello\n[bold]fine[/bold]\n" in output
    assert "Ctrl-C stops an answer" in output
    assert "Unknown command" in output
    assert [message["content"] for message in engine.asked[1]] == ["hi", "Hello", "and you?"]
    assert [message["role"] for message in engine.asked[1]] == ["user", "assistant", "user"]
    assert engine.asked[2] == [{"role": "user", "content": "hi"}]
    assert len(engine.asked) == 3


def test_ctrl_c_stops_the_answer_and_a_second_one_leaves() -> None:
    engine = Scripted(["half", KeyboardInterrupt, "never"], ["more"], ["not this"])
    output = talk(engine, "hi", "go on", "^C", "hi")
    assert "half\nStopped." in output
    assert "never" not in output
    assert engine.asked[1][1]["content"] == "half"
    assert len(engine.asked) == 2
    assert engine.closed == 2


class Impatient(io.StringIO):
    """Somebody who presses Ctrl-C, for real, once the third piece of an answer is there."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        if self.writes == 6:  # the first line takes two or three
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


@pytest.mark.usefixtures("ctrl_c")
def test_a_real_ctrl_c_stops_a_real_engine(engine: Engine) -> None:
    output = Impatient()
    terminal.chat(engine, io.StringIO("hi\nagain\n"), output, max_tokens=300, temperature=0.0)
    said, _, then = output.getvalue().partition("Stopped.")
    assert len(said) < 300
    assert len(then) > len("Ctrl-C again leaves.") + 50  # the next answer is written out


def test_the_end_of_the_input_leaves() -> None:
    assert talk(Scripted(["hello"]), "hi").endswith("hello\n\n")


def test_an_answer_cannot_drive_the_terminal() -> None:
    output = talk(Scripted(["a\x1b[2Jb\x07\x9b31m\r\tc\nd é"]), "hi")
    assert "a[2Jb31m\tc\nd é" in output
    assert "\x1b" not in output


def test_too_long_a_message_is_said_and_forgotten(engine: Engine) -> None:
    output = talk(engine, "x" * 3000, "hi", "/quit")
    assert "tokens that fit" in output


def test_a_whole_conversation_with_a_real_engine(engine: Engine) -> None:
    output = io.StringIO()
    terminal.chat(engine, io.StringIO("hi\nagain\n"), output, max_tokens=5, seed=1)
    lines = output.getvalue().splitlines()
    assert lines[0] == terminal.opening(engine)
    assert len("".join(lines[1:])) > 4


# fitting


def records(answers: int = 20, *, fits: bool = True) -> list[Record]:
    """Somebody who always answers the same, or in noise that cannot be learnt."""
    chance = np.random.default_rng(0)
    found = []
    for number in range(answers):
        noise = "".join(chr(97 + c) for c in chance.integers(0, 26, 12))
        for author, words in (("other", f"q {noise}"), ("me", "tea, please" if fits else noise)):
            values = {"text": words, "author": author, "conversation": "c"}
            at = f"2026-01-01T10:{number:02d}:{author == 'me':02d}+00:00"
            split = "train" if number < int(0.8 * answers) else "heldout"
            found.append(record_of("message", values, at, split))
    return found


KEY = bytes(32)


def random() -> Any:
    from simulations.devices import SeededRandomness

    return SeededRandomness(0, 0).stream("personal")


def test_an_adapter_that_helps_is_kept() -> None:
    settings = settings_for("tiny")
    shared, _ = adapters(settings)
    seen: list[tuple[str, int, int]] = []
    result = train(
        records(), shared, settings, lambda *what: seen.append(what), key=KEY, random=random()
    )
    assert result.kept
    assert result.personal is not None
    assert result.gain == pytest.approx(result.before_loss - result.after_loss, abs=1e-6)
    assert 0 < result.gain_low < result.gain < result.gain_high
    assert (result.train, result.heldout) == (16, 4)
    assert {what for what, _, _ in seen} == {
        "evaluating base", "evaluating shared", "fitting", "evaluating shared + personal"
    }  # fmt: skip
    assert all(0 < done <= total for _, done, total in seen)
    assert ("fitting", 48, 48) in seen
    assert "nats" in result.reason
    assert str(float(result.personal.vector[0])) not in repr(result)


def test_it_helps_as_much_when_it_answers() -> None:
    """What `train` measured is what the engine does with the adapter that it returned."""
    settings = settings_for("tiny")
    result = train(records(), None, settings, key=KEY, random=random())
    engine = open_engine(settings, None, result.personal)
    conversation = [*HELLO, answer("tea, please")]
    before, after = (engine.log_likelihood(conversation, scales=s) for s in (BASE, Scales()))
    assert after - before > 0.5 * result.gain * len("tea, please")


def test_without_a_shared_adapter_there_is_none() -> None:
    settings = settings_for("tiny")
    shared, _ = adapters(settings)
    train(
        records(), shared, settings, key=KEY, random=random()
    )  # leaves its shared adapter in the backbone
    result = train(records(), None, settings, key=KEY, random=random())
    assert result.before_loss == result.base_loss


def test_one_that_does_not_help_is_not_kept() -> None:
    settings = settings_for("tiny", personal_rate=0.5)
    result = train(records(fits=False), None, settings, key=KEY, random=random())
    assert result.personal is None
    assert not result.kept
    assert result.gain_low <= 0
    assert result.reason.startswith("Not kept")


def test_a_better_adapter_in_use_stays() -> None:
    settings = settings_for("tiny")
    good = train(records(), None, settings, key=KEY, random=random()).personal
    weaker = settings_for("tiny", personal_rate=1e-3)
    result = train(records(), None, weaker, key=KEY, random=random(), current=good)
    assert result.gain_low > 0
    assert result.current_loss is not None
    assert result.current_loss < result.after_loss
    assert not result.kept
    assert "in use" in result.reason
    again = train(records(), None, settings, key=KEY, random=random(), current=good)
    assert again.kept
    assert again.current_loss == pytest.approx(again.after_loss, abs=1e-6)


def test_the_same_randomness_fits_the_same_adapter() -> None:
    settings = settings_for("tiny")
    first, second = (train(records(), None, settings, key=KEY, random=random()) for _ in range(2))
    assert first.personal is not None
    assert second.personal is not None
    assert np.array_equal(first.personal.vector, second.personal.vector)


def test_too_few_answers_are_said() -> None:
    with pytest.raises(InputError, match="2 answers to train on and 1 to evaluate"):
        train(records(3), None, settings_for("tiny"), key=KEY)


def test_a_federation_of_few_examples_leaves_enough_to_learn_alone() -> None:
    """Where there are too few answers importing more helps, whatever a federation's `examples`."""
    settings = settings_for("tiny").but(examples=12)
    with pytest.raises(InputError, match="Import more messages"):
        train(records(3), None, settings, key=KEY, random=random())
    result = train(records(30), None, settings, key=KEY, random=random())
    assert result.train > 12
    assert result.heldout >= 4


def test_a_shared_adapter_of_another_shape_is_refused() -> None:
    other, _ = adapters(settings_for("tiny", rank=5))
    with pytest.raises(InputError, match="another shape"):
        train(records(), other, settings_for("tiny"), key=KEY)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Simulated answers with a known mean gain; 1,500 intervals, four standard errors."""
    chance = np.random.default_rng(0)
    covered, count, truth = 0, 1500, 0.1
    for _ in range(count):
        tokens = chance.integers(5, 40, 12)
        gains = truth * tokens + chance.normal(size=12) * np.sqrt(tokens)
        before = [LanguageScore(10.0 * n, 0, int(n)) for n in tokens]
        after = [LanguageScore(10.0 * n - g, 0, int(n)) for n, g in zip(tokens, gains, strict=True)]
        gain, low, high = paired_gain(before, after)
        assert gain == pytest.approx(gains.sum() / tokens.sum())
        covered += low <= truth <= high
    expected = 0.95
    assert abs(covered / count - expected) < 4 * np.sqrt(expected * (1 - expected) / count)
