"""What a process says of itself: logs, metrics, trace ids. Payloads never pass through here."""
