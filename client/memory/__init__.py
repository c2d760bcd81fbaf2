"""Memory: what the vault's records say, found again by words, by meaning and by time."""
