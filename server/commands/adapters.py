"""`adapters`: the published versions, where each comes from, and which one counts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.console.say import say
from common.enrolment.fingerprints import short
from common.rounds.outcomes import DONE
from common.system import strict_json
from server.commands import place_of, with_folder

if TYPE_CHECKING:
    from server.registry.evaluations import Evaluation
    from server.registry.provenance import Guarantee
    from server.registry.registry import RoundEntry

PUBLISHED = "published (UTC)"
GAIN = "gain over base"  # takes that column's place where there are evaluations
COLUMNS = ("version", "devices", "from", "ε record", "ε user", PUBLISHED, "SHA-256")


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("adapters", help="list the published adapters"))
    parser.add_argument("--json", action="store_true", help="provenance in full, as a JSON list")
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    folder = place_of(options).federation
    if options.json:
        say(strict_json.encode(_in_full(folder / "server"), indent=1))
    else:
        _tell(folder)
    return 0


def _in_full(folder: Path) -> list[dict[str, Any]]:
    """Every version's provenance, with its last evaluation or null."""
    from server.registry.evaluations import latest
    from server.registry.registry import evaluations, provenances

    known = latest(evaluations(folder))
    return [
        one.to_dict() | {"evaluation": known[number].to_dict() if number in known else None}
        for number, one in provenances(folder).items()
    ]


def _tell(folder: Path) -> None:
    from common.console.tables import console, show_table
    from server.registry.evaluations import latest
    from server.registry.registry import current, evaluations, history, rollbacks
    from server.round.hold import HOW_TO_GO_ON, on_hold

    hold, folder = on_hold(folder), folder / "server"
    out, rounds, gains = console(), history(folder), latest(evaluations(folder))
    if not rounds:
        out.print("No round was made yet.")
        return
    place = COLUMNS.index(PUBLISHED)
    headings = [GAIN if gains and title == PUBLISHED else title for title in COLUMNS]
    rows = _rows(folder, rounds)
    for row in rows:
        if gains:
            row[place : place + 1] = [_gain(gains.get(int(row[0])))] * (len(row) > place)
    show_table(out, headings, rows, bare=True)
    out.print("ε: what this federation's releases cost any device up to there, at most.")
    for back in rollbacks(folder):
        at = _minute(back.made_at)
        out.print(f"After round {back.after}, at {at}: rolled back to version {back.to}.")
    if hold:
        out.print(f"{hold.why()} {HOW_TO_GO_ON}")
    now = current(folder)
    out.print(f"The next round starts from version {now}{'' if now else ', the start'}.")


def _rows(folder: Path, rounds: list[RoundEntry]) -> list[list[str]]:
    from server.registry.registry import parent, provenances

    known, rows = provenances(folder), []
    for one in rounds:
        if one.status != DONE:
            rows.append([str(one.round), one.status])
            continue
        row = [str(one.round), f"{one.survivors} of {one.cohort}"]
        if origin := known.get(one.round):
            spent = origin.spent
            row += [str(parent(origin, rounds)), _shown(spent.record), _shown(spent.user)]
            row += [_minute(origin.published_at)]
        else:
            row += ["?"] * 4
        rows.append([*row, short(one.adapter_sha256)])
    return rows


def _shown(spent: Guarantee | None) -> str:
    return f"≤ {spent.epsilon:.2f}" if spent else "none"


def _gain(known: Evaluation | None) -> str:
    return f"{known.gain:+.3f} ± {known.std:.3f}" if known else ""


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")
