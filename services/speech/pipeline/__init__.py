"""From clips to samples, from samples to tensors, from tensors to answers; no network, no sessions."""
