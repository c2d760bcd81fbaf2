"""The two adapters over the frozen base: W = W_base + shared + personal (DESIGN 3)."""
