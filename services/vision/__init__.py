"""The vision service: names, finds, reads and embeds what images show."""
