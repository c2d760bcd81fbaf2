"""What server and devices must agree on about a run and its rounds."""
