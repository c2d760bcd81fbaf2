"""The one port that the world sees: TLS, a list of open paths, limits, and nothing else."""
