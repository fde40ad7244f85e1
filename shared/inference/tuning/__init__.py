"""What was found out by measuring on this machine: the settings under which a model is served best."""
