"""Readers of published recordings: from files to labelled clips at 8 kHz."""
