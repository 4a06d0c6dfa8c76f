"""Windows to predictions, and what is said of a recording."""
