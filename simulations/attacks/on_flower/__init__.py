"""The attacks on Flower 1.41's SecAgg+."""
