"""Postgres, as several processes read and write it.

`pool` connects, `locks` lists the advisory locks, `migrate` makes the tables of `log` and `ops`.
`positions` says how far the log has been read.
A version: `timeline` has its definitions, `versions` makes and promotes it, `feeding` writes its rows,
`calendars` and `stages` lay out its rules for SQL, `promoted` and `views` let BI read it.
`obligations` and `settling` keep what on-call is told, `outbox` what goes to Kafka, `keys` who may send.
`definition_facts` and `reading` are queries that several ask.
"""
