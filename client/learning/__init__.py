"""What this device learns from its own examples, and the adapters that it keeps."""
