"""The assistant: an engine that answers with the device's adapters, and a conversation with it."""
