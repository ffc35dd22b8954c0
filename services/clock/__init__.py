"""The clock: what is due when no event comes.

`look` finds what is due and fires it, `process` runs it, `reconcile` sets obligations right when another
version is promoted.
"""
