"""Differential privacy: the DP-SGD step, the accountant, the record of what was spent."""
