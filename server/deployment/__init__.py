"""An operator's deployment: its folder, settings, certificates and processes."""
