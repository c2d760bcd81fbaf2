"""The federation's coordinator: cohorts, rounds, aggregation, published adapters."""
