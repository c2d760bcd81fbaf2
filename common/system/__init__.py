"""Files, processes, signals and libraries, each handled in one place."""
