"""card.md from measurements.

content.py   Card: what a card says, as values
rendering.py  render(card): the Markdown
files.py     make_files(card): the card with its plots, as `release` takes them
"""
