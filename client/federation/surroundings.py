"""The state of the machine, as far as its platform tells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

POWER_SUPPLIES = Path("/sys/class/power_supply")
IDLE_SHARE, SAMPLE_S = 50.0, 0.5  # percent of all processors, over so long
QUERY_S = 2.0
NETWORK_MANAGER = (
    "get-property",
    "org.freedesktop.NetworkManager",
    "/org/freedesktop/NetworkManager",
    "org.freedesktop.NetworkManager",
    "Metered",
)
METERED, UNMETERED = ("1", "3"), ("2", "4")  # NMMetered: yes, guessed yes; no, guessed no


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine is doing; None where that is not known.

    Attributes:
        minute: Minute of the local day, 0 to 1439.
        idle: Whether it has little to do.
        charging: Whether it runs on mains power.
        unmetered: Whether its network is not paid for by volume.
    """

    minute: int
    idle: bool | None = None
    charging: bool | None = None
    unmetered: bool | None = None


def surroundings(*, busy: bool = True) -> Surroundings:
    """Read the machine's state; takes at most a few seconds.

    Args:
        busy: Watch for a moment how busy it is, which this process should not be itself meanwhile.
    """
    now = datetime.now().astimezone()
    return Surroundings(
        minute=60 * now.hour + now.minute,
        idle=psutil.cpu_percent(SAMPLE_S) < IDLE_SHARE if busy else None,
        charging=on_mains(POWER_SUPPLIES) if POWER_SUPPLIES.is_dir() else _plugged_in(),
        unmetered=_unmetered(),
    )


def on_mains(supplies: Path) -> bool | None:
    """Whether any supply delivers power, or there is no battery to run on.

    Args:
        supplies: A folder laid out as Linux's /sys/class/power_supply.
    """
    if not supplies.is_dir():
        return None
    found = [folder for folder in sorted(supplies.iterdir()) if _read(folder / "scope") != "Device"]
    batteries = [folder for folder in found if _read(folder / "type") == "Battery"]
    plugs = [folder for folder in found if folder not in batteries]
    if not batteries or any(_read(plug / "online") == "1" for plug in plugs):
        return True
    states = {_read(battery / "status") for battery in batteries}
    if "Discharging" in states:
        return False
    return True if states & {"Charging", "Full", "Not charging"} else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _plugged_in() -> bool | None:
    """Whether the machine is plugged in, where there is no such folder, as on macOS."""
    if sys.platform.startswith("linux"):
        return None
    battery = psutil.sensors_battery()
    return True if battery is None else battery.power_plugged


def _unmetered() -> bool | None:
    """What NetworkManager says of the connection in use, asked through systemd's `busctl`."""
    busctl = shutil.which("busctl")
    if busctl is None or not sys.platform.startswith("linux"):
        return None
    try:
        answer = subprocess.run(  # noqa: S603
            [busctl, *NETWORK_MANAGER], capture_output=True, text=True, timeout=QUERY_S, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    state = answer[-1] if answer else ""
    return True if state in UNMETERED else False if state in METERED else None
