"""Invites and devices, and the desk that takes both."""
