"""The dashboard's page: what a person wants to know first, first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from statistics import median
from typing import Any

from common.enrolment.fingerprints import short
from common.page.document import document
from common.page.drawing import draw_rounds, svg_of
from common.page.markup import cells_of, facts_of, section, text, warning
from common.privacy.statements import odds, record_level, user_level
from common.rounds.outcomes import ABANDONED
from server.dashboard.quality import gain, hold_box, quality
from server.dashboard.situation import Situation
from server.registry.evaluations import latest
from server.registry.provenance import Guarantee, Provenance
from server.registry.registry import RoundEntry, parent

REFRESH_S = 15
DRAWN, LISTED = 60, 40  # rounds in the plot, rows in a table: the latest
HERE = "in this federation"
Sentence = Callable[[dict[str, Any] | None, str], str]


def page(situation: Situation) -> str:
    """Complete HTML; asks for itself again after 15 seconds, and loads nothing else."""
    parts = (_top, _rounds, quality, _privacy, _adapters, _devices, _processes)
    return document(
        f"{text(situation.name)} · Privity",
        "\n".join(part(situation) for part in parts),
        f'<meta http-equiv="refresh" content="{REFRESH_S}">',
    )


def _top(situation: Situation) -> str:
    over = f"Privity · federation · {_time(situation.at)} UTC"
    return (
        f'<header><p class="over">{over}</p><h1>{text(situation.name)}</h1>'
        f'<p class="lead">{_progress(situation)}</p>{_warnings(situation)}{_tiles(situation)}'
        "</header>"
    )


def _progress(situation: Situation) -> str:
    made = situation.made
    words = f"{made} of {situation.planned} rounds made"
    if situation.under_way:
        words += f"; round {made + 1} is being made now"
    elif situation.hold:
        words += "; on hold"
    elif situation.asked and situation.asked > made:
        words += f"; asked for up to round {situation.asked}"
    elif made < situation.planned:
        words += "; no more are asked for (<code>privity-server run</code>)"
    return f"{words}. {_base(situation)}"


def _base(situation: Situation) -> str:
    if not situation.current:
        return "The next round starts from the published start."
    return f"The next round starts from version {situation.current}."


def _warnings(situation: Situation) -> str:
    boxes = hold_box(situation.hold)
    if situation.missing:
        names = text(" and ".join(situation.missing))
        boxes += warning("Not ready.", f"Missing: {names}. The log says why.")
    if lost := _lost_last(situation.rounds):
        which = "The last round was" if lost == 1 else f"The last {lost} rounds were"
        boxes += warning(
            f"{which} abandoned.", f"Nothing was revealed. {text(situation.rounds[-1].why)}"
        )
    if situation.spent and not (situation.spent.record or situation.spent.user):
        boxes += warning(
            "No differential privacy.",
            "The shared adapter may remember what people wrote. Not a setting for real people.",
        )
    return boxes


def _lost_last(rounds: Sequence[RoundEntry]) -> int:
    lost = 0
    while lost < len(rounds) and rounds[-1 - lost].status == ABANDONED:
        lost += 1
    return lost


def _tiles(situation: Situation) -> str:
    rounds, devices = situation.rounds, situation.devices
    tiles = [
        (f"{len(situation.done):,}", "rounds done"),
        (f"{len(rounds) - len(situation.done):,}", "rounds abandoned or held"),
        ("?" if devices.online is None else f"{devices.online:,}",
         f"of {devices.enrolled:,} devices online"),
        (f"{rounds[-1].seconds:,.1f} s" if rounds else "–", "the last round took"),
        (_epsilons(situation), "spent so far, record · user level"),
    ]  # fmt: skip
    cards = (f'<div class="card"><b>{big}</b><span>{small}</span></div>' for big, small in tiles)
    return f'<div class="cards">{"".join(cards)}</div>'


def _epsilons(situation: Situation) -> str:
    if not situation.spent:
        return "–"
    both = (situation.spent.record, situation.spent.user)
    return " · ".join(f"ε {one.epsilon:.2f}" if one else "none" for one in both)


def _rounds(situation: Situation) -> str:
    rounds = situation.rounds
    if not rounds:
        return section("Rounds", "<p>No round was made yet.</p>")
    asked = sum(entry.cohort for entry in situation.done)
    lost = asked - sum(entry.survivors for entry in situation.done)
    words = f"Median {median(entry.seconds for entry in rounds):,.1f} s a round. "
    words += f"Of {asked:,} answers that finished rounds asked for, {lost:,} did not come"
    words += f" ({lost / asked:.1%})." if asked else "."
    caption = "Above: devices asked (pale) and devices whose update is in the sum (solid); × was "
    caption += "abandoned, or held by an evaluation. Below: seconds for each round."
    rows = [
        [str(entry.round), _outcome(entry), *_counts(entry), f"{entry.seconds:,.1f}"]
        for entry in rounds
    ]
    head = ("round", "outcome", "asked", "in the sum", "dropped out", "seconds")
    return section(
        "Rounds",
        f"<p>{words}</p><figure>{_plot(tuple(rounds[-DRAWN:]))}"
        f"<figcaption>{caption}</figcaption></figure>{_table(head, rows)}",
    )


def _outcome(entry: RoundEntry) -> str:
    return entry.status if entry.charged else f"{entry.status}, nobody charged"


def _counts(entry: RoundEntry) -> list[str]:
    return [f"{n:,}" for n in (entry.cohort, entry.survivors, entry.cohort - entry.survivors)]


@lru_cache(maxsize=2)
def _plot(rounds: tuple[RoundEntry, ...]) -> str:
    log = [
        {"round": one.round, "status": one.status, "cohort": one.cohort,
         "survivors": one.survivors, "seconds": one.seconds, "charged": one.charged}
        for one in rounds
    ]  # fmt: skip
    return svg_of(2.9, lambda figure: draw_rounds(figure.subplots(2, 1, sharex=True), log))


def _privacy(situation: Situation) -> str:
    if not situation.spent:
        return section("Privacy", "<p>Nothing is spent before the first round.</p>")
    spent = situation.spent
    words = (
        "Differential privacy bounds how far one contribution can show in what leaves a device. "
        "Each device keeps its own account and stops at its budget. Below is what this "
        "federation's releases cost a device that answered every attempt so far; others have spent "
        "less here. What a device released to others is known to its own ledger only."
    )
    cards = _guarantee("Record level", spent.record, record_level) + _guarantee(
        "User level", spent.user, user_level
    )
    return section("Privacy", f'<p>{words}</p><div class="cards two">{cards}</div>')


def _guarantee(title: str, spent: Guarantee | None, sentence: Sentence) -> str:
    known = asdict(spent) if spent else None
    promise = sentence(known, HERE).removeprefix(f"{title.lower()}: ")
    promise = text(promise[0].upper() + promise[1:] if not spent else promise) + "."
    if not spent:
        return f'<div class="card"><h3>{title}</h3><b>none</b><p>{promise}</p></div>'
    return (
        f'<div class="card"><h3>{title}</h3><b>ε ≤ {spent.epsilon:.2f}</b>'
        f"<span>of a budget of {spent.budget:g} that is never exceeded</span><p>So far at most "
        f"{promise}</p><p>Whoever sees the results can change the odds of a guess about it by a "
        f"factor of {odds(spent.epsilon)} at most (e<sup>ε</sup>).</p></div>"
    )


def _adapters(situation: Situation) -> str:
    if not situation.done:
        return section("Adapters", f"<p>None is published yet. {_base(situation)}</p>")
    back = "".join(
        f"<li>After round {one.after}, at {_time(one.made_at)}: rolled back to version {one.to}."
        "</li>"
        for one in situation.rollbacks
    )
    head = ("version", "made from", "devices", "ε record", "ε user", "published (UTC)",
            "gain", "Privity", "SHA-256")  # fmt: skip
    rows = [_adapter(situation, entry) for entry in situation.done]
    return section(
        "Adapters",
        f"<p>{_base(situation)} Each row is a published version; <code>privity-server export"
        f"</code> writes one for use elsewhere, <code>rollback</code> goes back to one.</p>"
        f"{_table(head, rows)}<ul>{back}</ul>",
    )


def _adapter(situation: Situation, entry: RoundEntry) -> list[str]:
    name = f"{entry.round}" + (" (current)" if entry.round == situation.current else "")
    devices = f"{entry.survivors:,} of {entry.cohort:,}"
    origin = situation.origins.get(entry.round)
    digest = f"<code>{text(short(entry.adapter_sha256))}</code>"
    if not origin:
        return [name, "?", devices, "?", "?", "?", "?", "?", digest]
    found = latest(situation.evaluations).get(entry.round)
    return [name, _from(origin, situation.rounds), devices, *_spent(origin),
            _time(origin.published_at), gain(found), text(origin.software), digest]  # fmt: skip


def _from(origin: Provenance, rounds: Sequence[RoundEntry]) -> str:
    return str(parent(origin, rounds) or "the start")


def _spent(origin: Provenance) -> list[str]:
    both = (origin.spent.record, origin.spent.user)
    return [f"≤ {one.epsilon:.2f}" if one else "none" for one in both]


def _devices(situation: Situation) -> str:
    devices, gateway = situation.devices, situation.gateway
    online = "unknown" if devices.online is None else f"{devices.online:,}"
    rows = [
        ("Enrolled", f"{devices.enrolled:,}"),
        ("Online", online),
        ("Revoked", f"{devices.revoked:,}"),
        ("Left", f"{devices.left:,}"),
    ]
    if gateway:
        total = sum(gateway.refusals.values())
        rows += [("Connections", f"{gateway.connections:,} to the gateway"),
                 ("Refusals", f"{total:,} since the gateway was started")]  # fmt: skip
        rows += [
            (f"– {text(reason)}", f"{count:,}")
            for reason, count in sorted(gateway.refusals.items(), key=lambda one: -one[1])
        ]
    return section("Devices and gateway", facts_of(rows))


def _processes(situation: Situation) -> str:
    head = ("process", "state", "restarts")
    rows = [
        [text(name), "runs" if part.running else "<strong>does not run</strong>",
         f"{part.restarts:,}"]
        for name, part in situation.parts.items()
    ]  # fmt: skip
    return section("Processes", _table(head, rows, newest_first=False))


def _table(head: Iterable[str], rows: Sequence[Sequence[str]], *, newest_first: bool = True) -> str:
    shown = list(reversed(rows))[:LISTED] if newest_first else rows
    body = "".join(f"<tr>{cells_of(row)}</tr>" for row in shown)
    table = f"<table><thead><tr>{cells_of(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    rest = f'<p class="note">The latest {LISTED} of {len(rows):,}.</p>'
    return f'<div class="wide">{table}</div>{rest if len(shown) < len(rows) else ""}'


def _time(at: str) -> str:
    return text(at[:16].replace("T", " "))
