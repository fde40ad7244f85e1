"""The calls without the network: what to send and what the replies mean. `Client` and `AsyncClient` share them."""
