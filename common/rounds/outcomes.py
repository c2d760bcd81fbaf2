"""What comes of a round: one word, the same in the registry, in reports and in figures.

`done`: the mean was published as a new version. `abandoned`: too few devices stayed, and nothing
was revealed. `held`: the version that it started from proved worse than its parent, to which the
rounds go back; nothing was published. Files of older versions have these words, so they stay.
"""

DONE, ABANDONED, HELD = "done", "abandoned", "held"
OUTCOMES = (DONE, ABANDONED, HELD)
