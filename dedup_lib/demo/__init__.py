"""A rehearsal of the whole flow: clips made on the spot, served on this machine, and what must come out.

`clips` makes the clips and the list, `server` serves them together with the traps, and `check` compares the outputs of
a run with what was planted.
"""
