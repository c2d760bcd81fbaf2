"""Many simulated users over the same client and server code."""
