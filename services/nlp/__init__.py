"""The language service: embeds texts and finds the label that fits them best."""
