"""privity.toml: every setting an operator has, from one table each.

The file that `init` writes and the check of what a person made of it come from the same fields,
help texts and bounds: the run's from `common.settings.Settings`, the gateway's from `Limits`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.enrolment.protocol import MAX_NAME
from common.errors import InputError
from common.settings import TABLE, Settings, from_mapping, require_none_in_vain
from common.settings.field import require_within
from server.deployment.certificates import require_name
from server.gateway.limits import Limits

TYPE_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
MAX_FILE_BYTES = 256 * 1024


def _field(default: Any, text: str, *, low: float | None = None, high: float | None = None) -> Any:
    rules = {"help": text, "low": low, "high": high, "above": None, "choices": ()}
    return dataclasses.field(default=default, metadata=rules)


@dataclass(frozen=True, slots=True)
class FederationSettings:
    """Section [federation]."""

    name: str = _field("Privity", "what devices call this federation, 1 to 100 characters")

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME or not self.name.isprintable():
            raise InputError(f"[federation] name must be 1 to {MAX_NAME} printable characters.")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Section [gateway]: the one port that the world sees."""

    host: str = _field("0.0.0.0", 'address to listen on; "::" for IPv6 as well')  # noqa: S104
    port: int = _field(8443, "TCP port to listen on; 0: any free one", low=0, high=65535)
    names: tuple[str, ...] = _field(
        (), "host names and addresses by which devices reach this machine; in the certificate"
    )
    superlink_port: int = _field(
        9092, "loopback port of the SuperLink; never open it to others", low=1, high=65535
    )

    def __post_init__(self) -> None:
        for name in self.names:
            require_name(name)
        unheard = [name for name in self.names if version(name) == 6]
        if unheard and version(self.host) == 4:
            problem = f"{unheard[0]} is an IPv6 address, and host {self.host} listens on none."
            raise InputError(problem, 'Set host = "::" under [gateway], for IPv4 and IPv6.')


def version(name: str) -> int | None:
    """4 or 6 for an IP address, None for a host name."""
    try:
        return ipaddress.ip_address(name).version
    except ValueError:
        return None


def host_for(names: Iterable[str]) -> str:
    """The address to listen on, such that devices can come by each of these names."""
    return "::" if any(version(name) == 6 for name in names) else GatewaySettings().host


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """Section [dashboard]: a page that shows how the federation is, and figures for Prometheus."""

    host: str = _field(
        "127.0.0.1", "address to listen on; any but 127.0.0.1 and ::1 shows it to others"
    )
    port: int = _field(8081, "TCP port to listen on; 0: no dashboard", low=0, high=65535)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """All of privity.toml."""

    federation: FederationSettings
    gateway: GatewaySettings
    dashboard: DashboardSettings
    limits: Limits
    run: Settings


HEADS = {
    "federation": "The federation.",
    "gateway": "The one port that the world sees. Names are needed here: without them, devices can"
    " only join from this machine.",
    "dashboard": "How the federation is, for its operator: /, /metrics, /health and /ready over"
    " plain HTTP without a password.",
    "limits": "What the gateway allows, and for how long it waits (docs/gateway.md).",
    "run": "What the federation learns, and what it costs: the settings of its runs.",
}


def text(federation: FederationSettings, gateway: GatewaySettings) -> str:
    """privity.toml as `init` writes it: all other settings at their defaults, each explained."""
    parts: dict[str, Any] = {
        "federation": federation, "gateway": gateway,
        "dashboard": DashboardSettings(), "limits": Limits(), "run": Settings(),
    }  # fmt: skip
    lines = ["# The settings of this federation. Changes count from the next start of `up`."]
    for section, values in parts.items():
        lines += ["", f"# {HEADS[section]}", f"[{section}]"]
        known = values.to_dict() if isinstance(values, Settings) else dataclasses.asdict(values)
        for name, field in _fields(type(values)).items():
            lines += _entry(name, field, known[name])
    return "\n".join(lines) + "\n"


def load(path: Path) -> OperatorSettings:
    """Read privity.toml; what is not given has its default.

    Raises:
        InputError: Naming the first thing that is wrong with it.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise InputError(f"{path} has {len(raw)} bytes; that is no settings file.")
        found = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        hint = "Give the folder that `privity-server init` made."
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint) from None
    except ValueError as error:  # of TOML and of UTF-8
        raise InputError(f"{path} is not TOML: {error}.", "Correct it there.") from None
    for section, values in found.items():
        if section not in HEADS or not isinstance(values, dict):
            known = ", ".join(f"[{name}]" for name in HEADS)
            raise InputError(f"{path.name}: unknown {section!r}.", f"It has the sections {known}.")
    run = from_mapping(_checked("run", Settings, found.get("run", {})))
    chosen = run.to_dict()
    require_none_in_vain(
        run, [name for name, setting in TABLE.items() if chosen[name] != setting.field.default]
    )
    return OperatorSettings(
        FederationSettings(
            **_checked("federation", FederationSettings, found.get("federation", {}))
        ),
        GatewaySettings(**_checked("gateway", GatewaySettings, found.get("gateway", {}))),
        DashboardSettings(**_checked("dashboard", DashboardSettings, found.get("dashboard", {}))),
        Limits(**_checked("limits", Limits, found.get("limits", {}))),
        run,
    )


def _fields(kind: type) -> dict[str, dataclasses.Field[Any]]:
    if kind is Settings:
        fields = {name: setting.field for name, setting in TABLE.items()}
        return {name: one for name, one in fields.items() if one.metadata["operators"]}
    return {field.name: field for field in dataclasses.fields(kind)}


def _entry(name: str, field: dataclasses.Field[Any], value: Any) -> list[str]:
    rules = field.metadata
    words = [re.sub("--[a-z-]+", _as_key, str(rules["help"]))]
    if rules["choices"]:
        words.append(" | ".join(_toml(choice) for choice in rules["choices"]))
    return [f"# {': '.join(words)}", f"{name} = {_toml(value)}"]


def _as_key(option: re.Match[str]) -> str:
    return option[0].removeprefix("--").replace("-", "_")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        plain = value.replace("\\", "\\\\").replace('"', '\\"')
        return (
            '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08X}" for one in plain) + '"'
        )
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def _checked(section: str, kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    fields = _fields(kind)
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise InputError(f"[{section}] has no setting {name!r}.", _nearest(name, fields))
        checked[name] = _value(f"[{section}] {name}", fields[name], value)
    return checked


def _nearest(name: str, fields: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(fields), n=1)
    return f"Did you mean {near[0]}?" if near else f"It has {', '.join(fields)}."


def _value(name: str, field: dataclasses.Field[Any], value: Any) -> Any:
    default: Any = field.default
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f'{name} must be a list of texts, like ["one", "two"].')
        return tuple(value)
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        words = TYPE_WORDS[type(default)]
        raise InputError(f"{name} must be {words}, not {str(value)[:100]!r}.")
    require_within(name, field.metadata, value)
    return value
