"""Versions built from the topics beside the one that BI reads, compared with it, and put in its place.

`build` makes the rows, `catch_up` lets the projector feed them, `diff` says what they change, `switch` lets
BI read them or the earlier ones again. Every step is a row of `ops`, can be killed at any moment and started
again, and never touches what BI reads.

A build: `reading` takes the topics apart (`routing`, `spill`), `ids` and `histories` put journeys together,
`folding` writes them into bare `tables`; `workers` does it by `job`, unit by unit (`runs`).
A diff: `compare` finds what differs, `changes` and `reasons` say why, or `first_events` since when;
`diff_outcome` reads it. `verify` is both, `log_verify` and `log_rebuild` do the same for the log itself.
"""
