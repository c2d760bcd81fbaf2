"""Records: what a person brings, and how it is read."""
