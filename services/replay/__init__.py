"""Versions built from the topics beside the one that BI reads, compared with it, and put in its place.

`build` makes the rows, `catch_up` lets the projector feed them, `diff` says what they change, `switch` lets
BI read them or the earlier ones again. Every step is a row of `ops`, can be killed at any moment and started
again, and never touches what BI reads.
"""
