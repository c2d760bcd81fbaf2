"""What a run gave to whom and at what price: as JSON, on a page, on the terminal."""
