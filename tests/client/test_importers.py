"""What people bring: each format with its traps, by content, in part, and from odd places."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from client.commands.import_ import FORMATS
from client.importers import IMPORTERS
from client.importers.amounts import currency, decimal_of, number
from client.importers.csv_table import MEANINGS, NEEDED
from client.importers.importer import Skipped, Wishes
from client.importers.source import Refused, Source, sources
from client.importers.times import from_iso, possible_orders
from common.errors import InputError
from common.records.records import KINDS, Record, keys_of

ZONE = "Europe/Berlin"
Read = tuple[str, list[Any], list[Skipped]]


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", ZONE)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def read(path: Path, **wishes: Any) -> Read:
    """Format, records and what was skipped, of a file or of the only file in a zip file."""
    (source,) = sources([path])
    assert isinstance(source, Source)
    importer = next(one for one in IMPORTERS.values() if one.knows(source))
    found = list(importer.read(source, Wishes(**wishes)))
    kept = [one for one in found if isinstance(one, Record)]
    return importer.name, kept, [one for one in found if isinstance(one, Skipped)]


def said(records: Sequence[Any]) -> list[tuple[str, str]]:
    return [(one.author, one.text) for one in records]


def test_the_registry_is_what_the_help_names_and_every_name_is_its_own() -> None:
    assert sorted(IMPORTERS) == sorted(FORMATS)
    assert all(name == importer.name and importer.title for name, importer in IMPORTERS.items())


def node(key: str, parent: str | None, children: list[str], message: Any) -> dict[str, Any]:
    return {"id": key, "parent": parent, "children": children, "message": message}


def spoken(role: str, parts: list[Any], kind: str = "text", **more: Any) -> dict[str, Any]:
    content = {"content_type": kind, "parts": parts}
    return {"author": {"role": role}, "content": content, "create_time": 1700000000} | more


def chatgpt(**nodes: Any) -> dict[str, Any]:
    return {"conversation_id": "c1", "title": "t", "current_node": "last", "mapping": nodes}


TREE = chatgpt(
    root=node("root", None, ["a"], None),
    a=node(
        "a", "root", ["b", "x"], spoken("user", ["Tea?", {"text": "or"}, {"asset_pointer": "file"}])
    ),
    x=node("x", "a", [], spoken("assistant", ["another branch"])),
    b=node("b", "a", ["c"], spoken("assistant", [], "thoughts")),
    c=node("c", "b", ["d"], spoken("assistant", ["print()"], recipient="python")),
    d=node("d", "c", ["e"], spoken("tool", ["2"])),
    e=node("e", "d", ["last"], spoken("assistant", ["unsaid"], weight=0)),
    last=node("last", "e", [], spoken("assistant", ["Tea."], create_time=None)),
)


def test_chatgpt_is_read_along_the_branch_that_was_seen(tmp_path: Path) -> None:
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps([TREE]))
    name, kept, skipped = read(file)
    assert name == "chatgpt"
    assert said(kept) == [("me", "Tea?\nor"), ("assistant", "Tea.")]
    assert [one.at for one in kept] == ["2023-11-14T22:13:20+00:00", None]
    assert {one.conversation for one in kept} == {"c1"} and not skipped


def test_chatgpts_custom_instructions_are_facts(tmp_path: Path) -> None:
    own = {
        "content_type": "user_editable_context",
        "user_profile": "I live in Ulm.",
        "user_instructions": " ",
    }
    file = tmp_path / "conversations.json"
    file.write_text(
        json.dumps(
            [chatgpt(last=node("last", None, [], {"author": {"role": "user"}, "content": own}))]
        )
    )
    assert [(one.kind, one.text) for one in read(file)[1]] == [("fact", "I live in Ulm.")]


def test_one_bad_conversation_costs_no_other(tmp_path: Path) -> None:
    cycle = chatgpt(
        a=node("a", "last", ["last"], spoken("user", ["round"])),
        last=node("last", "a", ["a"], None),
    )
    dangling = chatgpt(last=node("last", "gone", [], spoken("user", ["alone"])))
    broken = chatgpt(last=node("last", None, [], spoken("user", ["x"]) | {"content": "text"}))
    old = {
        "id": "c0",
        "mapping": {"last": node("last", None, [], spoken("user", ["no current node"]))},
    }
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps([{"title": "none"}, None, cycle, dangling, broken, old, TREE]))
    _, kept, skipped = read(file)
    assert [one.text for one in kept] == ["round", "alone", "no current node", "Tea?\nor", "Tea."]
    assert [one.where for one in skipped] == [
        f"conversation {number}" for number in (1, 2, 3, 4, 5)
    ]
    whole = file.read_text()
    file.write_text(whole[:-40])
    _, fewer, told = read(file)
    assert len(fewer) == 3 and "breaks off" in told[-1].reason


def test_chatgpts_zip_has_many_files(tmp_path: Path) -> None:
    file = tmp_path / "export.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(60):
            archive.writestr(f"conversations-{number:03}.json", json.dumps([TREE]))
        archive.writestr("__MACOSX/._x", b"\x00")
        archive.writestr("image.png", b"\x89PNG\r\n")
    found = list(sources([file]))
    known = [one for one in found if isinstance(one, Source) and IMPORTERS["chatgpt"].knows(one)]
    assert len(known) == 60 and len(found) == 61


def test_claude_has_several_parts_and_attachments(tmp_path: Path) -> None:
    messages = [
        {"sender": "human", "text": "old", "created_at": "2026-01-01T10:00:00.5Z", "content": [
            {"type": "text", "text": "See this."}, {"type": "tool_use", "text": None}],
         "attachments": [{"file_name": "a.txt", "extracted_content": "its words"}]},
        {"sender": "assistant", "text": "Fine.", "content": [], "created_at": None},
        {"sender": "robot", "text": "?"}, None,
    ]  # fmt: skip
    file = tmp_path / "conversations.json"
    file.write_text(
        json.dumps(
            [
                {"uuid": "u", "name": "n", "chat_messages": messages},
                {"uuid": "v", "chat_messages": None},
            ]
        )
    )
    name, kept, skipped = read(file)
    assert name == "claude" and said(kept) == [
        ("me", "See this.\n\nits words"),
        ("assistant", "Fine."),
    ]
    assert kept[0].at == "2026-01-01T10:00:00.500000+00:00" and len(skipped) == 3


WHATSAPP = {
    "ios-en": "[13/01/2024, 10:01:02\u202fAM] Anna: Tea?\n"
    "\u200e[13/01/2024, 10:02:02\u202fPM] Ben: Tea.",
    "android-us": "1/13/24, 10:01\u202fAM - Anna: Tea?\n1/13/24, 10:02 PM - Ben: Tea.",
    "android-de": "13.01.24, 10:01 - Anna: Tea?\n13.01.24, 22:02 - Ben: Tea.",
    "ios-de": "[13.01.24, 10:01:02] Anna: Tea?\n[13.01.24, 22:02:02] Ben: Tea.",
    "es": "13/1/24, 10:01 a.\u00a0m. - Anna: Tea?\n13/1/24, 10:02 p.\u00a0m. - Ben: Tea.",
    "nl": "13-01-2024 10:01 - Anna: Tea?\n13-01-2024 22:02 - Ben: Tea.",
    "iso": "2024/01/13, 10:01 - Anna: Tea?\n2024/01/13, 22:02 - Ben: Tea.",
    "zh": "[2024/1/13 上午10:01:02] Anna: Tea?\n[2024/1/13 下午10:02:02] Ben: Tea.",
    "ko": "2024. 1. 13. 오전 10:01, Anna : Tea?\n2024. 1. 13. 오후 10:02, Ben : Tea.",
    "no-blank": "13.01.24, 10:01 - Anna:Tea?\n13.01.24, 22:02 - Ben:Tea.",
}


@pytest.mark.parametrize("text", WHATSAPP.values(), ids=WHATSAPP)
def test_whatsapp_in_every_spelling_of_a_time(tmp_path: Path, text: str) -> None:
    file = tmp_path / "WhatsApp Chat with Anna.txt"
    file.write_text(text + "\n")
    name, kept, skipped = read(file, me="Ben")
    assert name == "whatsapp" and not skipped
    assert said(kept) == [("other", "Tea?"), ("me", "Tea.")]
    assert [one.at[:16] for one in kept] == ["2024-01-13T09:01", "2024-01-13T21:02"]
    assert {one.conversation for one in kept} == {"Anna"}


def test_whatsapps_system_lines_media_and_texts_that_look_like_a_beginning(tmp_path: Path) -> None:
    file = tmp_path / "chat.txt"
    file.write_text(
        "13.01.24, 10:00 - Messages and calls are end-to-end encrypted.\n"
        "13.01.24, 10:01 - Anna: first\nat 10:30 - not a beginning: more\n\nlast\n"
        "13.01.24, 10:02 - Anna: <Media omitted>\n13.01.24, 10:02 - Anna: \u200e<attached: 1.jpg>\n"
        "13.01.24, 10:03 - Anna: \u200eBild weggelassen\n13.01.24, 10:04 - Ben: a < b and c > d\n"
        "33.01.24, 10:04 - Ben: no such day\n",
        encoding="utf-16",
    )
    _, kept, skipped = read(file, me="Ben", dates="dmy")
    assert said(kept) == [
        ("other", "first\nat 10:30 - not a beginning: more\n\nlast"),
        ("me", "a < b and c > d"),
    ]
    assert [one.where for one in skipped] == ["line 10"]


def test_whether_the_day_or_the_month_comes_first_is_told_by_the_whole_file(tmp_path: Path) -> None:
    assert possible_orders([(1, 2, 24), (13, 2, 24)]) == ["dmy"]
    assert possible_orders([(1, 2, 24), (2, 13, 24)]) == ["mdy"]
    assert possible_orders([(1, 12, 24), (2, 12, 24), (3, 1, 24)]) == ["mdy"]  # else not in order
    assert possible_orders([(2024, 1, 2)]) == ["ymd"]
    assert possible_orders([(1, 2, 24), (3, 4, 24)]) == ["dmy", "mdy"]
    file = tmp_path / "chat.txt"
    file.write_text("1/2/24, 10:00 - Anna: a\n3/4/24, 10:00 - Ben: b\n")
    with pytest.raises(InputError, match="cannot be told"):
        read(file, me="Ben")
    assert read(file, me="Ben", dates="mdy")[1][0].at.startswith("2024-01-02")


def telegram(messages: list[Any]) -> dict[str, Any]:
    return {"name": "Anna", "type": "personal_chat", "id": 5, "messages": messages}


TOLD = [
    {"id": 1, "type": "service", "date_unixtime": "1705140000", "actor": "Anna", "text": "x"},
    {"id": 2, "type": "message", "date": "2024-01-13T10:01:00", "date_unixtime": "1705140060",
     "from": "Anna", "from_id": "user7",
     "text": ["Tea or ", {"type": "bold", "text": "coffee"}, "?"]},
    {"id": 3, "type": "message", "date": "2024-01-13T10:02:00", "date_unixtime": "1705140120",
     "from": "Ben", "from_id": "user8", "text": "Tea", "text_entities": []},
    {"id": 4, "type": "message", "date_unixtime": "1705140180", "from": "Ben", "from_id": "user8",
     "forwarded_from": "Carl", "text": "somebody else's"}, None,
]  # fmt: skip


def test_telegram_in_one_chat_and_in_all(tmp_path: Path) -> None:
    one, every = tmp_path / "result.json", tmp_path / "all.json"
    one.write_text(json.dumps(telegram(TOLD)))
    whole = {
        "personal_information": {"user_id": 8},
        "chats": {"list": [telegram(TOLD), telegram(TOLD)]},
    }
    every.write_text(json.dumps(whole))
    (source,) = sources([one])
    assert isinstance(source, Source)
    assert IMPORTERS["telegram"].names(source) == {"Anna": 1, "Ben": 2}
    wanted = [("other", "Tea or coffee?"), ("me", "Tea")]
    name, kept, skipped = read(one, me="Ben")
    assert (name, said(kept), len(skipped)) == ("telegram", wanted, 1)
    assert said(read(every)[1]) == wanted * 2
    assert kept[0].at == "2024-01-13T10:01:00+00:00"


def test_messages_with_roles(tmp_path: Path) -> None:
    lines = [
        {"id": "k", "messages": [
            {"role": "system", "content": "be kind"}, {"role": "user", "content": [
            {"type": "text", "text": "hi"}]}, {"role": "assistant", "content": "hello"}]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"},
                           {"from": "x", "value": "?"}]},
    ]  # fmt: skip
    file = tmp_path / "chat.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in lines) + "{broken\n[]\n")
    name, kept, skipped = read(file)
    assert name == "messages"
    assert said(kept) == [("me", "hi"), ("assistant", "hello"), ("me", "q"), ("assistant", "a")]
    assert [one.where for one in skipped] == ["line 2", "line 3", "line 4"]
    file.write_text(json.dumps(lines))
    assert said(read(file)[1]) == said(kept)


HEALTH = (
    '<?xml version="1.0"?>\n<!DOCTYPE HealthData [\n<!ELEMENT x (Record|Workout)*>\n'
    "<!ATTLIST Record\n"
    "  type CDATA #REQUIRED\n>\n]>\n<HealthData locale='de'>\n"
    '<Record type="HKQuantityTypeIdentifierHeartRate" sourceName="W\x0batch &amp; Co"'
    ' odd name="<b>"'
    ' unit="count/min" startDate="2024-01-01 10:00:00 +0100"'
    ' endDate="2024-01-01 10:00:01 +0100" value="61"/>\n'
    '<Record type="HKCategoryTypeIdentifierSleepAnalysis" startDate="2024-01-01 22:00:00 +0100"'
    ' endDate="2024-01-02 06:30:00 +0100" value="HKCategoryValueSleepAnalysisAsleepCore">'
    '<MetadataEntry key="a" value="b"/></Record>\n'
    '<Workout workoutActivityType="HKWorkoutActivityTypeRunning" duration="31.5" durationUnit="min"'
    ' startDate="2024-01-03 10:00:00 +0100"></Workout>\n'
)


def test_apple_health_survives_what_breaks_its_xml(tmp_path: Path) -> None:
    file = tmp_path / "export.xml"
    file.write_text(HEALTH + '<Record type="HKQuantityTypeIdentifierStepCount" value="1\n' + HEALTH)
    name, kept, skipped = read(file)
    wanted = [
        ("HeartRate", 61.0, "count/min", "2024-01-01T09:00:00+00:00"),
        ("SleepAnalysis AsleepCore", 8.5, "h", "2024-01-01T21:00:00+00:00"),
        ("Workout Running", 31.5, "min", "2024-01-03T09:00:00+00:00"),
    ]
    assert name == "apple-health"
    assert [(one.name, one.value, one.unit, one.at) for one in kept] == wanted * 2
    assert len(skipped) == 1


def test_apple_health_is_read_across_every_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "export.xml"
    file.write_text(HEALTH * 3)
    whole = read(file)[1]
    for chunk in (1, 7, 64, 333):
        monkeypatch.setattr("client.importers.apple_health.CHUNK", chunk)
        assert read(file)[1] == whole


TABLES = {
    "rating": ("\ufeffTitle,Your Rating,Date Rated\nAlien,9,2024-01-02\n"
               "\"Heat, the film\",8.5,2024-01-03\n",
               [("Alien", 9.0), ("Heat, the film", 8.5)]),
    "transaction": ("Buchungstag;Verwendungszweck;Betrag (EUR)\n31.12.2023;Bäckerei;-3,50\n"
                    "02.01.2024;Gehalt;1.234,00\n",
                    [("Bäckerei", -3.5), ("Gehalt", 1234.0)]),
    "measurement": ("time\tname\tvalue\tunit\n2024-01-02T10:00:00Z\tweight\t71,5\tkg\n",
                    [("weight", 71.5)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_tables_say_what_they_are(tmp_path: Path, kind: str, encoding: str) -> None:
    text, wanted = TABLES[kind]
    file = tmp_path / "table.csv"
    file.write_text(
        text.removeprefix("\ufeff") if encoding == "cp1252" else text, encoding=encoding
    )
    name, kept, skipped = read(file)
    assert name == "csv" and not skipped and {one.kind for one in kept} == {kind}
    keys = {
        "rating": ("title", "value"),
        "transaction": ("payee", "amount"),
        "measurement": ("name", "value"),
    }
    assert [tuple(getattr(one, key) for key in keys[kind]) for one in kept] == wanted
    if kind == "transaction":
        assert {one.currency for one in kept} == {"EUR"} and kept[0].at.startswith("2023-12-30T23")


def test_a_tables_columns_can_be_said(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("was,wie viel\nSchach,9\nGo,viel\n")
    (source,) = sources([file])
    assert isinstance(source, Source)
    csv_ = IMPORTERS["csv"]
    with pytest.raises(InputError, match="headings do not say") as told:
        list(csv_.read(source, Wishes()))
    assert "--kind" in str(told.value)
    columns = {"title": "was", "value": "wie viel"}
    found = list(csv_.read(source, Wishes(kind="rating", columns=columns)))
    assert isinstance(found[0], Record) and found[0].values == {
        "item": "Schach",
        "title": "Schach",
        "value": 9.0,
    }
    assert found[1] == Skipped("row 3", "its value is no number")
    with pytest.raises(InputError, match="no column 'x'"):
        list(csv_.read(source, Wishes(kind="rating", columns={"title": "x"})))
    with pytest.raises(InputError, match="no such records"):
        list(csv_.read(source, Wishes(kind="dream")))


def test_what_tables_mean_are_keys_of_records() -> None:
    for kind, meanings in MEANINGS.items():
        assert set(meanings) <= {*keys_of(KINDS[kind]), "at"} and set(NEEDED[kind]) <= set(meanings)


@pytest.mark.parametrize(
    ("text", "decimal", "wanted"),
    [("1.234,56", ",", 1234.56), ("1,234.56", ".", 1234.56), ("-3,5 €", ",", -3.5),
     ("(12.00)", ".", -12.0),
     ("12-", ".", -12.0), ("1'234.5", ".", 1234.5), ("\u22125", ".", -5.0), (".5", ".", 0.5),
     ("1 234,5", ",", 1234.5),
     ("x", ".", None), ("", ".", None), ("1.2.3", ".", None)],
)  # fmt: skip
def test_numbers_as_people_write_them(text: str, decimal: str, wanted: float | None) -> None:
    assert number(text, decimal) == wanted


def test_the_decimal_sign_is_told_by_the_column() -> None:
    assert decimal_of(["1,234", "5,5"]) == "," and decimal_of(["1,234", "5.5"]) == "."
    assert decimal_of(["1,234"]) == "." and decimal_of(["1,234"], semicolons=True) == ","
    assert decimal_of(["1,234,567"]) == "." and decimal_of(["1.234.567"]) == ","
    assert (
        currency("12 €") == "EUR" and currency("Amount (USD)") == "USD" and currency("Amount") == ""
    )


OFX = (
    "OFXHEADER:100\nDATA:OFXSGML\n\n<OFX><STMTRS><CURDEF>EUR<BANKTRANLIST>\n"
    "<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>20240103120000.000[-5:EST]<TRNAMT>-12,30<FITID>1\n"
    "<NAME>Shop &amp; Co\n"
    "</STMTTRN>\n<STMTTRN><DTPOSTED>20240104<TRNAMT>5<MEMO>memo</STMTTRN>"
    "<STMTTRN><DTPOSTED>20240104<NAME>no amount</STMTTRN></BANKTRANLIST></STMTRS></OFX>"
)


def test_ofx_in_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.ofx"
    file.write_text(OFX)
    name, kept, skipped = read(file)
    wanted = [
        ("Shop & Co", -12.3, "EUR", "2024-01-03T17:00:00+00:00"),
        ("memo", 5.0, "EUR", "2024-01-04T00:00:00+00:00"),
    ]
    assert name == "ofx"
    assert [(one.payee, one.amount, one.currency, one.at) for one in kept] == wanted
    assert skipped == [Skipped("transaction 3", "it has no amount")]
    xml = "<?xml version='1.0'?><?OFX VERSION='200'?>" + OFX[OFX.index("<OFX>") :]
    for tag in ("CURDEF", "DTPOSTED", "TRNAMT", "FITID", "NAME", "MEMO", "TRNTYPE"):
        parts = xml.split(f"<{tag}>")
        ends = [one.find("<") for one in parts[1:]]
        xml = parts[0] + "".join(
            f"<{tag}>{one[:end].strip()}</{tag}>{one[end:]}"
            for one, end in zip(parts[1:], ends, strict=True)
        )
    file.write_text(xml)
    monkeypatch.setattr("client.importers.ofx.CHUNK", 50)
    assert read(file)[1] == kept


def test_qif_needs_a_currency_and_an_order_of_dates(tmp_path: Path) -> None:
    file = tmp_path / "a.qif"
    file.write_text(
        "!Type:Bank\nD13/1'2024\nT-1,234.50\nPRent\nLHome\n^\nD1/2/24\nT5\n^\n!Type:Memorized\nT1\nPx\n^\n"
    )
    with pytest.raises(InputError, match="currency"):
        read(file)
    name, kept, skipped = read(file, currency="EUR")
    assert name == "qif" and [(one.payee, one.amount, one.category) for one in kept] == [
        ("Rent", -1234.5, "Home")
    ]
    assert kept[0].at.startswith("2024-01-12T23") and len(skipped) == 1


def test_notes_are_passages_under_their_headings(tmp_path: Path) -> None:
    file = tmp_path / "note.md"
    file.write_text(
        "---\ntitle: x\ndate: 2024-05-01\n---\nBefore.\n# Garden #\n"
        "Buy seeds.\n\n\n\nWater.\n## Later\n"
    )
    name, kept, _ = read(file)
    assert name == "notes"
    assert [one.text for one in kept] == ["Before.", "Garden\nBuy seeds.\n\nWater."]
    assert all(one.at.startswith("2024-04-30T22") for one in kept)


def test_own_records_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '{"kind": "fact", "text": "a"}\n{"kind": "fact"}\n\n{"kind": "fact", "text": "b"}'
    )
    name, kept, skipped = read(file)
    assert name == "records" and [one.text for one in kept] == ["a", "b"]
    assert skipped == [Skipped("line 2", "a fact record without 'text'.")]


def test_folders_patterns_links_and_what_is_no_file(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside.txt"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    outside.write_text("secret")
    for name in ("a.md", "deep/b.md", ".hidden/c.md", ".d.md"):
        (folder / name).write_text("x")
    os.mkfifo(folder / "pipe")
    (folder / "out").symlink_to(outside)
    (folder / "in").symlink_to(folder / "a.md")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    found = list(sources([folder]))
    assert [one.name for one in found if isinstance(one, Source)] == ["a.md", "b.md", "in"]
    refused = {Path(one.shown).name: one.reason for one in found if isinstance(one, Refused)}
    assert set(refused) == {"pipe", "out", "gone"} and "link" in refused["out"]
    assert [one.name for one in sources([folder / "**/*.md"]) if isinstance(one, Source)] == [
        "a.md",
        "b.md",
    ]
    for path in (folder / "pipe", tmp_path / "nowhere", tmp_path / "*.none"):
        with pytest.raises(InputError):
            list(sources([path]))


def test_a_zip_bomb_an_encrypted_and_a_damaged_zip_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.importers.source.SMALL_BYTES", 100_000)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"0" * 5_000_000)
    (source,) = sources([bomb])
    assert isinstance(source, Source)
    with pytest.raises(InputError, match="unpacks to far more"), source.open() as stream:
        while stream.read(10_000):
            pass
    cut = tmp_path / "cut.zip"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", b"words " * 100)
    whole = bytearray(made.getvalue())
    whole[45] ^= 0xFF
    cut.write_bytes(whole)
    (source,) = sources([cut])
    assert isinstance(source, Source)
    with pytest.raises(InputError, match="cannot be unpacked"), source.open() as stream:
        stream.read()
    whole[45] ^= 0xFF
    for at in (6, made.getvalue().rindex(b"PK\x01\x02") + 8):
        whole[at] |= 1
    cut.write_bytes(whole)
    assert [one.reason for one in sources([cut]) if isinstance(one, Refused)] == ["is encrypted"]


def test_what_makes_no_record_is_skipped_with_its_reason(tmp_path: Path) -> None:
    """Half a character, and numbers that JSON does not have."""
    file = tmp_path / "chat.jsonl"
    turns = [{"role": "user", "content": "a\ud800"}, {"role": "user", "content": "whole"}]
    file.write_text(json.dumps({"messages": turns}))
    _, kept, skipped = read(file)
    assert said(kept) == [("me", "whole")]
    assert skipped == [Skipped("line 1", "'text' is not usable text")]
    health = tmp_path / "export.xml"
    health.write_text(HEALTH.replace('value="61"', 'value="1e999"'))
    assert read(health)[2] == [Skipped("element 1", "'value' is no finite number")]


def test_times_as_exports_have_them() -> None:
    assert from_iso("2024-01-01 10:00:00 +0100") == "2024-01-01T09:00:00+00:00"
    assert from_iso("2024-01-01T10:00:00") == "2024-01-01T09:00:00+00:00"  # this machine's zone
    assert from_iso("yesterday") is None and from_iso(None) is None


def test_the_importer_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "add-an-importer.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {"__name__": "diary"}
    exec(compile(code, "diary.py", "exec"), names)
    monkeypatch.setitem(IMPORTERS, "diary", names["Diary"]())
    file = tmp_path / "diary.dat"
    file.write_text("2024-05-01: went swimming\nnothing\n2024-05-02: slept\n")
    name, kept, skipped = read(file)
    assert name == "diary" and [one.text for one in kept] == ["went swimming", "slept"]
    assert skipped == [Skipped("line 2", "is no day")]
