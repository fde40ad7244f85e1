"""Models that hang or crash: how the others keep serving, and how the guilty one is found and kept out."""
