"""What runs: a folder for each process, the commands in `cli`, Postgres in `store`. Beside them:

`settings`, `environment`: what can be set; `logging`, `daemon`, `web_server`: how a process runs.
`broker`, `producing`, `registry`, `registry_archive`: Kafka and the schema registry.
`json_lines`, `foreign`, `publisher`: files of events to Kafka; `rejections`: events that were refused.
`deploy`, `definitions`, `wait`: what is done to a log and waited for.
`lead`, `lead_difference`, `trace`, `effects`: one lead, and why it is as it is.
`summary`, `markov`, `what_if`, `backtest`, `backtest_run`: all leads, as they are or would be.
`wording`: how events, amounts and instants are said to people.
"""
