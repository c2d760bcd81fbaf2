"""Primitives that are unsafe on their own. Imported only inside `common.secagg`."""
