"""What is claimed, put to the test: an audit, attacks, benchmarks, a frontier."""
