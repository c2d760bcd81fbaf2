"""What drives the two Flower apps: this process, or Flower's own simulation runtime."""
