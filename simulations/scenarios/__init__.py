"""Who the simulated people are: one file for each built-in data set, and `folder` for your own."""
