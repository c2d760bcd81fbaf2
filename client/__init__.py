"""The device: local training, its own ledger, its side of the protocol."""
