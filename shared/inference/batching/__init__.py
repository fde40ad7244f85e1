"""One queue before each session: who waits, what runs together, who gets which rows back, and the counts of it."""
