"""What client, server and simulations share. Imports nothing of theirs."""
