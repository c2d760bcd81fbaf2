"""One module a task: records → examples, loss, metrics."""
