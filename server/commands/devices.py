"""`devices`: who takes part."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from server.commands import place_of, with_folder

if TYPE_CHECKING:
    from server.deployment.place import Place


def add(commands: Any) -> None:
    """Put it on the command line."""
    parser = with_folder(commands.add_parser("devices", help="list the enrolled devices"))
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from common.console.tables import console, show_table

    place = place_of(options)
    enrolment, online = place.enrolment(), _online(place)
    try:
        devices = enrolment.devices()
    finally:
        enrolment.close()
    rows = []
    for one in devices:
        here = "?" if online is None else ("online" if one.member in online else "offline")
        at = datetime.fromtimestamp(one.enrolled_at, UTC).strftime("%Y-%m-%d %H:%M")
        rows.append([str(one.member), at, one.gone_why or here])
    out = console()
    if devices:
        show_table(out, ("member", "enrolled (UTC)", "state"), rows)
    else:
        out.print("No device is enrolled yet: `privity-server invite`.")
    if online is None:
        out.print("The federation is not up: who is online is unknown.")
    return 0


def _online(place: Place) -> list[int] | None:
    from common.errors import PrivityError
    from server.deployment.superlink import Control, flower_place

    control = Control(flower_place(place))
    try:
        return control.online()
    except PrivityError:
        return None
    finally:
        control.close()
