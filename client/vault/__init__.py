"""The vault: one encrypted database, how it is opened, and the ledger in it."""
