"""How a device and an operator meet, and the log of everybody who was enrolled."""
