"""Who is let in: a permit is taken before anything is decoded, and refused at once where the call would only wait.

At the call's edge and not in shared/inference: all it needs is what a call says (its model's name, bytes, caller) and
what it took (its report), so that typed calls, Open Inference Protocol calls and whatever comes next pass the same door.
"""
