"""Made-up lead journeys: realistic, seeded, any size, with everything that goes wrong in a real log.

Promises: the same plan gives the same bytes; lines come in the order in which they reach the log; memory
stays flat whatever the size. `kinds` names what can be asked for, `market` what every lead sees, `story` is
one lead's life told in order, `mishaps` is what happens to it on the way, `arrival` sorts it, `stream` joins
them, `live` sends it as it happens. Leaves validation to `schemas.contract`, sending to `services.publisher`.
"""
