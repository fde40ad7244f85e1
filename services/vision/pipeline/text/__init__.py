"""Reading text: find lines, cut them out, turn them upright, recognise them, put them in reading order."""
