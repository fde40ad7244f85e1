"""What speaks for an answer and what against it, for any model: parts of its input are left out at random, and how the
score follows is put down to the parts. Words and cells of images are the services'; here a part is a number.
"""
