"""A round on the server: who is asked, what is summed, what it cost, and whether to go on."""
