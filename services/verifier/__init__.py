"""The verifier: proves again and again that what BI reads is what the topics say.

`process` waits for its time and runs `services.replay.verify`, `metrics` says what was found.
"""
