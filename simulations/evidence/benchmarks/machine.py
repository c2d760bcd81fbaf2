"""Where figures come from: hardware and versions, nothing that names the host or its user."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = (
    "privity",
    "torch",
    "flwr",
    "opacus",
    "peft",
    "transformers",
    "cryptography",
    "numpy",
    "xllamacpp",
)
CPU_INFO = Path("/proc/cpuinfo")


def machine() -> dict[str, str | int | float]:
    """Processor, memory, system, and how many cores are busy with other work."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "busy_cores": round(os.getloadavg()[0], 2),  # runnable processes, mean of a minute
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """What is installed of the packages that a figure depends on."""
    return {package: version(package) for package in PACKAGES}


def _cpu_model() -> str:
    if CPU_INFO.exists():
        for line in CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
