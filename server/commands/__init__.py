"""`privity-server`'s commands, one a file: `add` puts it on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.deployment.place import Place
    from server.registry.registry import Registry


def with_folder(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the option that says which federation is meant."""
    parser.add_argument(
        "--dir", default=".", metavar="DIR", help="the operator's folder (default: here)"
    )
    return parser


def place_of(options: argparse.Namespace) -> Place:
    """The operator's folder that the options name.

    Raises:
        InputError: It is none, or others can read its keys.
    """
    from server.deployment.place import existing

    return existing(Path(options.dir))


def registry_of(place: Place) -> Registry:
    """Its registry, of the adapters that privity.toml describes. Loads the model's description."""
    from common.learning.backbone import adapter_plans
    from server.registry.registry import Registry

    return Registry(place.federation / "server", adapter_plans(place.run())[0])
