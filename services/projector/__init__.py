"""The projector: from the topics into the log and the rows of every version that is fed, exactly once.

`worker` runs the process: `engine` hands whole batches (`delivery`) to `handler`. A batch is one transaction:
`decoding` reads it, `batch` takes it into the `log`, `fold` brings the rows up, `conclusions` tells others.
`redaction` overwrites what was erased, `histories` reads journeys back from the log.
Beside the batches run `refold`, `outbox`, `lag` and `topics`; `progress`, `health`, `metrics` tell how it is.
"""
