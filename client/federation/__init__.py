"""This device in a federation: joining, its part in rounds, its policy and its budget."""
