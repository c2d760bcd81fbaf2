"""What an operator can see: a page, figures for Prometheus, and whether all is well. Read-only."""
