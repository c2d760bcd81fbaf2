"""The commands of `privity-client`, a file each: `add` declares it, `run` does it."""
