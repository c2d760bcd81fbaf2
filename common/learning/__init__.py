"""Examples through a frozen model: tokens, its body, its two adapters."""
