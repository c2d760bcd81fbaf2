"""`privity-client install-service`: let the system start it at login (systemd, launchd)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from client.vault.home import FILE_VARIABLE, home
from common.console.say import say
from common.system.processes import NOWHERE, python

NAME = "privity-client"
LABEL = "org.privity.client"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("install-service", help="start at login (systemd, launchd)")
    parser.add_argument("--show", action="store_true", help="print the file, write nothing")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Write the unit for this platform; the person switches it on."""
    from client.vault.vault import read_header
    from common.errors import InputError
    from common.models.wheels import cache_dir

    folder = home(options)
    secret = options.passphrase_file or os.environ.get(FILE_VARIABLE)
    if read_header(folder).get("kept") == "passphrase" and not secret:
        problem = "Nobody can type this vault's passphrase at login."
        hint = "Name a file with --passphrase-file, or `privity-client passphrase --keyring`."
        raise InputError(problem, hint)
    command = python("client", "--home", str(folder))
    command += ["--passphrase-file", str(Path(secret).absolute())] if secret else []
    command += ["start", "--foreground"]
    mac, models = sys.platform == "darwin", cache_dir().absolute()
    text, file, hint = (_launchd if mac else _systemd)(command, models)
    if options.show:
        say(text, end="")
        return 0
    for needed in (file.parent, models):
        needed.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    say(f"{file} is written. Switch it on: {hint}")
    return 0


def _systemd(command: list[str], models: Path) -> tuple[str, Path, str]:
    words = " ".join(_quoted(word) for word in command)
    vault = command[command.index("--home") + 1]
    text = (
        "[Unit]\nDescription=Privity: your part of a private federation\n"
        "After=network-online.target\n\n"
        f"[Service]\nExecStart={words}\nWorkingDirectory={NOWHERE}\n"
        "Restart=on-failure\nRestartSec=30\nNice=10\n"
        "NoNewPrivileges=yes\nPrivateTmp=yes\nProtectSystem=strict\nUMask=0077\n"
        f"Environment={_quoted(f'PRIVITY_CACHE={models}')}\n"
        f"ReadWritePaths={_quoted(vault)} {_quoted(str(models))}\n\n"
        "[Install]\nWantedBy=default.target\n"
    )
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return (
        text,
        folder / "systemd/user" / f"{NAME}.service",
        f"systemctl --user enable --now {NAME}",
    )


def _launchd(command: list[str], models: Path) -> tuple[str, Path, str]:
    words = "".join(f"    <string>{escape(word)}</string>\n" for word in command)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" '
        '"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
        f'<plist version="1.0">\n<dict>\n  <key>Label</key><string>{LABEL}</string>\n'
        f"  <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n"
        f"  <key>EnvironmentVariables</key>\n  <dict><key>PRIVITY_CACHE</key>"
        f"<string>{escape(str(models))}</string></dict>\n"
        f"  <key>WorkingDirectory</key><string>{NOWHERE}</string>\n"
        "  <key>RunAtLoad</key><true/>\n  <key>KeepAlive</key>\n"
        "  <dict><key>SuccessfulExit</key><false/></dict>\n"
        "  <key>ProcessType</key><string>Background</string>\n</dict>\n</plist>\n"
    )
    file = Path("~/Library/LaunchAgents").expanduser() / f"{LABEL}.plist"
    return text, file, f"launchctl bootstrap gui/$UID {file}"


def _quoted(word: str) -> str:
    """Quote a path for systemd, where % and $ stand for themselves only when doubled."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"'
