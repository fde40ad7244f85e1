"""Which replicas there are, what each says of itself, and what that makes of the models' names."""
