"""The same attacks on `common.secagg`."""
