"""What is built and what is promised about it: typed packages, Python versions, the lock file."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = CONFIGURATION["project"]
PACKAGES: list[str] = CONFIGURATION["tool"]["importlinter"]["root_packages"]
DEPENDENCIES = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]


def locked() -> list[Requirement]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    lines = re.findall(r"^(\S.*==.*) \\$", text, re.MULTILINE)
    return [Requirement(line) for line in lines]


def environment(python: str, system: str, processor: str) -> dict[str, str]:
    return {
        "python_version": python, "python_full_version": f"{python}.0", "os_name": "posix",
        "sys_platform": system, "platform_machine": processor, "extra": "",
        "platform_system": system.title(), "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    built = distribution("privity").read_text("RECORD") or ""
    if f"{package}/__init__.py," in built:  # not installed in place
        assert f"{package}/py.typed," in built


def test_the_versions_of_python_are_those_that_are_promised() -> None:
    promised = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{n}" for n in range(20) if f"3.{n}" in promised] == list(PYTHONS)
    assert "Python 3.11 to 3.14" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("machine", MACHINES, ids="-".join)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_file_answers_every_dependency(python: str, machine: tuple[str, str]) -> None:
    here = environment(python, *machine)
    pins: dict[str, list[Version]] = {}
    for pin in locked():
        if pin.marker is None or pin.marker.evaluate(here):
            version = str(pin.specifier).removeprefix("==")
            pins.setdefault(canonicalize_name(pin.name), []).append(Version(version))
    assert all(len(versions) == 1 for versions in pins.values())
    for text in DEPENDENCIES:
        wanted = Requirement(text)
        (version,) = pins[canonicalize_name(wanted.name)]
        assert version in wanted.specifier, f"{wanted}: make the lock file again (CONTRIBUTING.md)"


def test_every_pin_of_the_lock_file_has_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=\S.*==)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked()) > 100
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry) for entry in entries)
