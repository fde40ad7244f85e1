"""Who may call: signing keys and the tokens made with them. Verifying on the request path is Envoy's."""
