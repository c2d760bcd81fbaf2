"""What a device keeps of the federation it is in, and the two keys it is known by there."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from client.federation.device import Identity
from client.federation.draws import OF_DRAWS
from client.federation.enrolled import OF_ENROLMENT
from client.federation.joining import Membership
from client.federation.prospects import OF_OFFER
from client.vault.store import FEDERATION, OF_ROUNDS, Store
from common.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DEVICE_KEY, NODE_KEY = "identity/device-key", "identity/node-key"


def keys(store: Store) -> tuple[Ed25519PrivateKey, EllipticCurvePrivateKey]:
    """The device's key and its node's, made and kept on first use."""
    device, node = store.get(DEVICE_KEY), store.get(NODE_KEY)
    if device is None or node is None:
        device = Ed25519PrivateKey.generate().private_bytes_raw()
        node = ec.generate_private_key(ec.SECP384R1()).private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with store.together():
            store.put(DEVICE_KEY, device)
            store.put(NODE_KEY, node)
    loaded = serialization.load_der_private_key(node, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return Ed25519PrivateKey.from_private_bytes(device), loaded


def keep(store: Store, membership: Membership) -> None:
    """Be in this federation from now on."""
    content = {
        "name": membership.federation,
        "url": membership.url,
        "member": membership.member,
        "ca": membership.ca_pem.decode(),
        "certificate": base64.b64encode(membership.certificate).decode(),
        "authority": base64.b64encode(membership.authority).decode(),
    }
    store.put(FEDERATION, json.dumps(content).encode())


def membership(store: Store) -> Membership:
    """The federation that this device is in.

    Raises:
        InputError: It is in none.
    """
    content = store.get(FEDERATION)
    if content is None:
        raise InputError("This device is in no federation.", "Join one: `privity-client join`.")
    known = json.loads(content)
    return Membership(
        url=known["url"],
        ca_pem=known["ca"].encode(),
        member=known["member"],
        certificate=base64.b64decode(known["certificate"]),
        authority=base64.b64decode(known["authority"]),
        federation=known["name"],
    )


def identity(store: Store) -> Identity:
    """Who this device is in secure sums."""
    known = membership(store)
    authority = Ed25519PublicKey.from_public_bytes(known.authority)
    return Identity(keys(store)[0], known.certificate, authority)


def forget(store: Store) -> None:
    """Be in no federation, with no keys and no secrets of rounds. Ledger and journal stay."""
    rounds = [key for prefix in (*OF_ROUNDS, *OF_DRAWS) for key in store.keys(prefix)]
    with store.together():
        for key in (FEDERATION, DEVICE_KEY, NODE_KEY, *OF_ENROLMENT, *OF_OFFER, *rounds):
            store.drop(key)
