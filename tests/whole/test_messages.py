"""What leaves a device: every byte of every message, of two runs with the same keys.

The two runs differ in the people alone. Everything a server could read must be equal; what is
masked must differ, and become exactly the quantised shared update once the known masks are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_people import Runner, write_people
from other_steps import with_steps

from client.federation import contribution, participation
from common.secagg import RoundTerms, levels_for, quantize, unpack
from common.secagg.messages import decode_masked
from common.secagg.terms import bound_digest
from simulations.engines.local import LocalGrid

Sent = list[tuple[int, str, bytes]]


class Recording:
    """All that devices sent, in order, and the updates as they were before masking."""

    def __init__(self) -> None:
        self.sent: Sent = []
        self.vectors: list[np.ndarray] = []  # type: ignore[type-arg]
        self.rings: list[np.ndarray] = []  # type: ignore[type-arg]
        self.terms: RoundTerms | None = None  # of the last masked leg, and its binding
        self.binding = b""


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Tap the wire itself (serialised messages), the update before quantising, and the ring."""
    heard = Recording()
    carry, quantise, ring = LocalGrid._carry, contribution.quantize, participation.to_ring
    begin = participation.begin

    def tapped(self: LocalGrid, message: Any) -> Any:
        from flwr.common.serde import message_to_proto

        if message.metadata.reply_to_message_id:
            content = message_to_proto(message).content.SerializeToString(deterministic=True)
            kind = message.metadata.message_type
            heard.sent.append((message.metadata.src_node_id, kind, content))
        return carry(self, message)

    def watched(update: Any, clip: float, levels: int) -> Any:
        heard.vectors.append(np.array(update))
        return quantise(update, clip, levels)

    def ringed(integers: Any, bits: int) -> Any:
        heard.rings.append(ring(integers, bits))
        return heard.rings[-1]

    def begun(device: Any, settings: Any, terms: RoundTerms, published: Any) -> Any:
        heard.terms, heard.binding = terms, bytes.fromhex(published.digest())
        return begin(device, settings, terms, published)

    with monkeypatch.context() as patch:
        patch.setattr(LocalGrid, "_carry", tapped)
        patch.setattr(participation, "begin", begun)
        patch.setattr(contribution, "quantize", watched)
        patch.setattr(participation, "to_ring", ringed)
        yield heard


def body(content: bytes) -> bytes:
    """The one bytes value of a recorded message."""
    from flwr.common.serde import recorddict_from_proto
    from flwr.proto.recorddict_pb2 import RecordDict as Proto

    (record,) = recorddict_from_proto(Proto.FromString(content)).config_records.values()
    assert set(record) == {"body"}
    value = record["body"]
    assert isinstance(value, bytes)
    return value


def test_two_runs_with_the_same_keys_and_other_people_look_the_same(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    for seed, answers in ((1, 10), (2, 7)):  # other words, and other numbers of examples
        data = write_people(tmp_path / f"people{seed}", 5, answers=answers, seed=seed)
        with recording(monkeypatch) as record:
            # one round: later rounds' terms name the adapter, which the first round's sum made
            options = ("--rounds", "1", "--learning-rate", "5")
            run(data, f"run{seed}", *options)
        heard.append(record)
    first, second = heard
    assert [(node, kind) for node, kind, _ in first.sent] == [
        (node, kind) for node, kind, _ in second.sent
    ]
    assert len(first.sent) == 5 * 6
    masked = []
    for (node, kind, ours), (_, _, theirs) in zip(first.sent, second.sent, strict=True):
        assert len(ours) == len(theirs)
        if kind == "train.update":
            masked.append((node, body(ours), body(theirs)))
        else:
            assert ours == theirs, kind
    check_masked(first, second, masked)


def check_masked(
    first: Recording, second: Recording, masked: list[tuple[int, bytes, bytes]]
) -> None:
    terms, header = first.terms, bound_digest(first.terms.digest(), first.binding)
    levels = levels_for(5, 24)
    for index, (node, ours, theirs) in enumerate(masked):
        a, b = first.vectors[index], second.vectors[index]
        assert not np.array_equal(a, b)
        ring_a, ring_b = (ring_of(node, m, terms, header) for m in (ours, theirs))
        modulus = 2**terms.bits
        mask_a = (ring_a - first.rings[index].astype(np.int64)) % modulus
        mask_b = (ring_b - second.rings[index].astype(np.int64)) % modulus
        assert np.array_equal(mask_a, mask_b)  # the same known mask under both: nothing else left
        assert len(np.unique(mask_a)) > 0.9 * len(mask_a)
        integers, _ = quantize(a, terms.clip, levels)
        assert np.array_equal((ring_a - mask_a) % modulus, integers.astype(np.int64) % modulus)


def ring_of(node: int, message: bytes, terms: RoundTerms, header: bytes) -> np.ndarray:  # type: ignore[type-arg]
    packed = decode_masked(header, node, message)
    return unpack(packed, terms.bits, terms.dimension).astype(np.int64)


def test_no_message_holds_a_personal_weight_or_a_word(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Search all sent bytes for the personal adapters, the people's words and their counts."""
    from safetensors.numpy import load_file

    data = write_people(tmp_path / "people", 5)
    with recording(monkeypatch) as heard:
        run(data, "run", "--learning-rate", "5")
    everything = b"".join(content for _, _, content in heard.sent)
    for word in (b"garden", b"train music", b"num_examples", b"loss", b"perplexity"):
        assert word not in everything
    for number in range(5):
        file = tmp_path / f"run/devices/{number:05d}/personal/adapter_model.safetensors"
        for weights in load_file(file).values():
            assert weights.astype("<f4").tobytes()[:64] not in everything
    for vector in heard.vectors:
        assert vector.astype("<f4").tobytes()[:64] not in everything


def test_a_refusal_tells_the_server_its_kind_and_no_more(
    run: Runner, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.errors import BudgetExceededError

    def spent(*_: Any) -> Any:
        raise BudgetExceededError("what this device has spent is its own affair")

    with_steps(monkeypatch, next_release=spent)
    with recording(monkeypatch) as heard:
        report = run(people, "run", "--rounds", "1", exit_code=1)
    assert report["rounds_log"][0]["status"] == "abandoned"
    refusals = [content for _, kind, content in heard.sent if kind == "query.advertise"]
    assert len(refusals) == 5
    assert all(b"BudgetExceededError" in content for content in refusals)
    assert not any(b"affair" in content for content in refusals)
