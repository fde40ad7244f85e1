"""The way of one call through each rpc; one module per rpc."""
