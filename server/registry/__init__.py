"""Published versions of the shared adapter: where they came from, and ways back."""
