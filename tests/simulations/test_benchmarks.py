"""The benchmarks measure what they say they do. How fast anything is, is not asserted."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from multiprocessing import Pipe, Process
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from gguf_base import write_base

from common.errors import PrivityError
from common.models import load_base, load_tokenizer, model_files
from common.secagg import dequantize
from simulations.cli import main
from simulations.evidence import benchmarks
from simulations.evidence.benchmarks import (
    secagg,
    secagg_member,
    secagg_round,
    secagg_server,
    timing,
)
from simulations.evidence.benchmarks.flower_peer import FlowerMember
from simulations.evidence.benchmarks.machine import PACKAGES
from simulations.evidence.benchmarks.secagg_member import MemberCase

UNITS = ("_s", "_per_s", "_bytes", "_mb", "_gb", "_count", "_tokens", "_nats_per_token")
UNITS += ("_per_h", "_cores")
DIMENSION = 1003  # not a whole number of blocks or words of any kind
HEADER_BYTES = 2 + 32 + 8  # SPEC.md, section 3: version, kind, T1, member
NINE = MemberCase(members=9, dimension=DIMENSION, repeats=1)


def assert_row(row: dict[str, Any], *peers: str) -> None:
    """DESIGN 6: named figures, each with its unit in its key."""
    assert {"case", "ours", "peers", "limit", "ratios"} <= set(row)
    assert tuple(row["peers"]) == peers
    for figures in (row["ours"], *row["peers"].values(), row["limit"]):
        for key, value in figures.items():
            assert key.endswith(UNITS), key
            assert value > 0 or key.endswith(("_mb", "_nats_per_token")), key
    assert all(value > 0 for value in row["ratios"].values())


def test_secagg_as_json_is_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secagg_member, "in_own_process", _here)
    monkeypatch.setattr(secagg_server, "in_own_process", _here)
    assert main(["bench", "secagg", "--quick", "--json"]) == 0
    output, notes = capsys.readouterr()
    assert "a whole round" in notes
    result = json.loads(output)
    assert output.count("\n") == 1
    assert result["name"] == "secagg"
    assert set(result["machine"]) == {"cpu", "cores", "busy_cores", "ram_gb", "os", "python"}
    assert set(result["versions"]) == set(PACKAGES)
    assert not any("/" in str(value) for value in result["machine"].values())
    member, server = result["rows"]
    assert_row(member, "flower")
    assert member["ours"]["upload_bytes"] == HEADER_BYTES + 3 * 100_000
    assert_row(server)
    assert server["ours"]["masks_count"] == 9 + 9  # own masks, and those towards the lost one
    sent = [server["ours"][f"member_{way}_bytes"] for way in ("up", "down")]
    assert sent[0] > 0.9 * (HEADER_BYTES + 3 * 100_000)  # one of ten sends no vector
    assert 10 * 233 < sent[1] < 20_000  # an advert is 233 bytes, and a roster has ten


def test_dp_row() -> None:
    from simulations.evidence.benchmarks import dp

    quick = dp.Case("tiny", examples=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dp, "in_own_process", _here)  # a fresh process takes seconds to import torch
        row = dp.row(quick, repeats=1)
    assert_row(json.loads(json.dumps(dataclasses.asdict(row))), "plain_lora")
    assert "synthetic" in row.data
    assert row.ours["batch_tokens"] == row.peers["plain_lora"]["batch_tokens"]


def _here(task: Callable[..., Any], *arguments: Any) -> Any:
    return task(*arguments)


def test_a_release_clips_and_adds_noise_and_none_is_plain() -> None:
    from simulations.evidence.benchmarks import dp

    step = dp.Step(dp.Case("tiny", examples=3))
    noiseless = dp.Release(noise_multiplier=0.0, sample_rate=1.0, steps=1)
    plain, clipped, private = (_after(step, kind) for kind in (None, noiseless, dp.RELEASE))
    bound = (
        dp.DEFAULTS.training.learning_rate * dp.DEFAULTS.record.max_grad_norm
    )  # a mean of clipped gradients
    assert 0 < np.linalg.norm(clipped) <= bound * 1.0001
    assert np.array_equal(plain, _after(step, None))
    assert not np.allclose(private, clipped)
    assert not np.allclose(private, plain)


def _after(step: Any, release: Any) -> Any:
    from common.adapter import lora

    step.run(release)
    plan = step._backbone.shared
    return lora.read(step._backbone.model, lora.SHARED, plan, plan.sent)


def test_the_timed_round_unmasks_to_the_sum_of_the_float_updates() -> None:
    cohort = secagg_member.StoppedRound(NINE)
    assert cohort.partners == 8
    assert cohort.timed(secagg_round.synthetic_update(DIMENSION))["mask_s"] > 0
    chance = np.random.default_rng(1)
    updates = chance.uniform(-0.04, 0.04, (9, DIMENSION)).astype(np.float32)
    total = cohort.sum_of(lambda member: updates[member])
    step = cohort.terms.clip / cohort.terms.levels
    summed = dequantize(total, cohort.terms.clip, cohort.terms.levels)
    rounding = 9 * step / 2  # half a step each
    assert np.abs(summed - updates.astype(np.float64).sum(axis=0)).max() <= rounding * 1.0001


def test_partners_are_those_whose_masks_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    from common.secagg._hazmat import prg

    cohort = secagg_member.StoppedRound(MemberCase(members=60, dimension=DIMENSION))
    real, masks = prg.masked_packed, []

    def counted(ring: Any, keys: Any, *rest: Any) -> bytes:
        masks.extend(keys)
        return real(ring, keys, *rest)

    monkeypatch.setattr(prg, "masked_packed", counted)
    cohort.masked(cohort.participant(), cohort.ring(secagg_round.synthetic_update(DIMENSION)))
    assert cohort.terms.neighbours < 59  # a sparse graph
    assert cohort.terms.neighbours < cohort.partners == len(masks) - 1 < 59


@pytest.mark.parametrize("neighbours", [2, 8])
def test_flower_masks_as_often_as_we_do(monkeypatch: pytest.MonkeyPatch, neighbours: int) -> None:
    peer = FlowerMember(secagg_round.synthetic_update(DIMENSION), neighbours)
    mod = sys.modules["flwr.client.mod.secure_aggregation.secaggplus_mod"]
    real, calls = mod.pseudo_rand_gen, []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(mod, "pseudo_rand_gen", counted)
    assert peer.timed()["upload_bytes"] > 8 * DIMENSION  # int64, and its own headers
    assert len(calls) == len({seed for seed, *_ in calls}) == neighbours + 1


def test_flower_is_timed_on_its_own_quantiser() -> None:
    """Without the masks, what the mod sends is what `quantise` gives: the same random draws."""
    from flwr.common import bytes_to_ndarray
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    peer = FlowerMember(secagg_round.synthetic_update(DIMENSION), 8)
    peer._inbox["ctxts"], peer._inbox["srcs"] = [], []
    peer._state.threshold = 1
    np.random.seed(0)
    masked = bytes_to_ndarray(peer.masked()[-1])
    np.random.seed(0)
    [quantised] = peer.quantise()
    _, own = pseudo_rand_gen(peer._state.rd_seed, peer.MOD_RANGE, [(1,), (DIMENSION,)])
    assert np.array_equal((masked - own) % peer.MOD_RANGE, quantised)


@pytest.mark.parametrize("count", [3, secagg_member.OPEN + 1])
def test_the_limit_makes_and_adds_every_key_stream(count: int) -> None:
    dimension = secagg_member.BLOCK_BYTES // 4 + 5
    vector = np.arange(dimension, dtype=np.uint32)
    keys = [bytes([number]) * 32 for number in range(count)]
    expected = vector.astype(np.uint64)
    for key in keys:
        cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        expected += np.frombuffer(cipher.update(bytes(4 * dimension)), dtype="<u4")
    secagg_member.stream_and_add(vector, keys)
    assert np.array_equal(vector, expected % 2**32)


class InThisProcess:
    """What stands for the members' process."""

    def __init__(self, terms: Any) -> None:
        self.crowd, self.asked = secagg_round.Crowd(terms, sample=2), []

    def __call__(self, name: str, *arguments: Any) -> Any:
        self.asked += arguments[:1]
        return getattr(self.crowd, name)(*arguments)


def test_a_whole_round_checks_its_sum() -> None:
    ask = InThisProcess(secagg_round.terms_for(30, DIMENSION, secagg_server.LOST))
    driven = secagg_server.Driven(ask.crowd._terms, ask)
    driven.run()
    driven.check()
    assert len(driven.survivors) == ask.asked.count("mask") == 27
    members = ask.crowd.seconds()
    assert set(members) == set(secagg_round.LEGS)
    assert members["share"] > 0
    driven.total[5] += 1
    with pytest.raises(AssertionError):
        driven.check()


def test_the_server_is_credited_with_the_masks_it_removes(monkeypatch: pytest.MonkeyPatch) -> None:
    from common.secagg._hazmat import prg

    removed: list[Any] = []
    monkeypatch.setattr(prg, "add_masks", lambda _, masks: removed.extend(masks))
    ask = InThisProcess(secagg_round.terms_for(60, DIMENSION, secagg_server.LOST))
    driven = secagg_server.Driven(ask.crowd._terms, ask)
    driven.run()
    assert ask.crowd._terms.neighbours < 59
    assert driven.masks == len(removed)


def test_members_can_live_in_another_process() -> None:
    terms = secagg_round.terms_for(5, DIMENSION, 0.0)
    with secagg_server.members_of(terms) as ask:
        adverts = ask("leg", "advertise", dict.fromkeys(range(5), b""))
        assert ask("leg", "advertise", {}) == {}
    assert len(set(adverts.values())) == 5


def test_tasks_take_turns_and_medians_leave_the_warm_up_out() -> None:
    order, figures = [], {"ours": iter([99.0, 3.0, 1.0, 2.0]), "peer": iter([99.0, 6.0, 4.0, 5.0])}

    def task(name: str) -> Callable[[], dict[str, float]]:
        return lambda: order.append(name) or {"total_s": next(figures[name])}

    medians = timing.interleaved({name: task(name) for name in figures}, repeats=3)
    assert order == ["ours", "peer"] * 4
    assert medians == {"ours": {"total_s": 2.0}, "peer": {"total_s": 5.0}}


def _allocations() -> tuple[float, float]:
    """Extra memory of 20 MB after 80 MB were held and given back, and of 40 MB."""
    np.ones(10 * 2**20)
    small = timing.memory(lambda: np.ones(20 * 2**17))
    large = timing.memory(lambda: np.ones(40 * 2**17))
    return small["peak_extra_mb"], large["peak_extra_mb"]


def test_memory_is_that_of_the_task() -> None:
    small, large = timing.in_own_process(_allocations)
    assert abs(small - 20) < 5
    assert abs(large - 40) < 5


def test_without_json_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secagg, "QUICK_MEMBER_CASES", (NINE,))
    monkeypatch.setattr(secagg, "QUICK_SERVER_CASES", ())
    monkeypatch.setattr(secagg_member, "in_own_process", lambda *_: {"peak_extra_mb": 1.0})
    benchmarks.run_benchmark("secagg", as_json=False, quick=True)
    output = capsys.readouterr().out
    words = ("9 members", "ours", "flower", "limit", "upload_bytes", "3,051", "noise_s")
    assert all(word in output for word in words)
    assert "speed_vs_flower" in output


@pytest.fixture
def tiny_crowd(tmp_path: Path) -> tuple[Any, list[Any]]:
    """Two people and their adapters on the tiny model, which gets a GGUF."""
    from made_up_people import write_people

    from common.settings import from_mapping
    from simulations.evidence.benchmarks import chat_data

    folder = tmp_path / "tiny"
    shutil.copytree(model_files("tiny"), folder)
    write_base(load_base("tiny"), load_tokenizer("tiny"), folder / "base.gguf")
    settings = chat_data.settings_for(2).to_dict()
    data = str(write_people(tmp_path / "people", 2, answers=20))
    settings |= {"model": str(folder), "data": data, "examples": 16}
    chosen = from_mapping(settings)
    return chosen, list(chat_data.people(chosen, 2))


def test_chat_compares_the_engines(tiny_crowd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters that were really fitted, on the same weights twice: the effect is the same."""
    from simulations.evidence.benchmarks import chat_agreement

    settings, crowd = tiny_crowd
    monkeypatch.setattr(chat_agreement, "same_tokens", lambda *_: 7)
    row = dataclasses.asdict(chat_agreement.row(settings, crowd, 1))
    assert_row(row, "torch", "llama_cpp_float32")
    assert abs(row["ratios"]["shared_effect_vs_torch"] - 1) < 0.1
    exact = row["peers"]["llama_cpp_float32"]
    assert exact["base_rms_difference_nats_per_token"] < 1e-4
    assert row["peers"]["torch"]["personal_effect_nats_per_token"] > 0.01
    assert "4 answers" in row["case"]


def test_chat_times_decoding(tiny_crowd: Any) -> None:
    from simulations.evidence.benchmarks import chat

    settings, crowd = tiny_crowd
    row = dataclasses.asdict(chat.speed_row(settings, crowd[0], 40))
    assert_row(row, "llama_cpp_plain", "torch")


def test_a_dequantised_gguf_holds_the_same_weights(tmp_path: Path) -> None:
    """Oracle: the gguf package's own dequantisation of what it quantised; fields stay."""
    import gguf

    from simulations.evidence.benchmarks.gguf_float32 import write_float32

    rows = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_float32("some.number", 0.5)
    kind = gguf.GGMLQuantizationType.Q4_1
    writer.add_tensor("w", gguf.quants.quantize(rows, kind), raw_dtype=kind)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    write_float32(tmp_path / "q.gguf", tmp_path / "f.gguf")
    reader = gguf.GGUFReader(tmp_path / "f.gguf")
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
    assert reader.fields["some.number"].contents() == 0.5
    [found] = reader.tensors
    assert found.tensor_type == gguf.GGMLQuantizationType.F32
    step = (rows.max() - rows.min()) / 15
    assert 0 < np.abs(np.array(found.data) - rows).max() <= 0.6 * step


@pytest.mark.long
def test_load_makes_rounds_in_which_every_device_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    from simulations.evidence.benchmarks import load, load_run

    monkeypatch.setattr(load_run, "SETTLE_S", 0.0)
    outcome = load_run.run(5, idle_s=3.0, rounds=2)
    assert (outcome.trouble, outcome.least_survivors, outcome.failures) == ("", 5, [])
    row = dataclasses.asdict(load.row(outcome))
    assert row["case"] == "5 devices, 2 of 2 rounds"
    assert all(key.endswith(UNITS) and value >= 0 for key, value in row["ours"].items())
    for name in ("superlink", "gateway", "serverapp", "devices"):
        assert row["ours"][f"round_{name}_cpu_s"] > 0
    assert row["ours"]["round_requests_count"] > 0
    legs, least_requests = 5 + 3, 7  # of a leg: pull, three objects, confirm, push, an object
    assert outcome.whole is not None and outcome.whole.requests >= 5 * legs * least_requests
    assert row["ours"]["serverapp_peak_rss_mb"] > row["ours"]["superlink_peak_rss_mb"] > 50
    assert row["ratios"]["survivors_vs_devices"] == 1


def test_a_load_that_breaks_is_a_row_that_says_why() -> None:
    from simulations.evidence.benchmarks import load, load_run

    row = load.row(load_run.Outcome(50, trouble="not all devices joined in 1 s"))
    assert row.case == "50 devices, 0 of 3 rounds: not all devices joined in 1 s"
    assert "pipelined_round_s" not in row.ours


def test_an_unknown_benchmark_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "lunch"]) == 2
    assert "lunch" in capsys.readouterr().err


def test_a_load_whose_devices_died_says_so() -> None:
    from simulations.evidence.benchmarks.load_run import Crowds

    ours, theirs = Pipe()
    theirs.close()
    with pytest.raises(PrivityError, match="not ready: a process of theirs ended"):
        Crowds([(Process(), ours)]).step(5.0, "not ready")
