"""Changes to recordings that a label survives; all randomness comes from a generator that is given."""
