"""The rpcs of the language service, one module each."""
