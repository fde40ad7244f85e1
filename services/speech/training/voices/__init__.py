"""Free synthesisers that lend voices to training: programs of the machine or weights by package name. Never test data."""
