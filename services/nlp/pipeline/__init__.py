"""From texts to tensors, from vectors to answers; no network, no sessions."""
