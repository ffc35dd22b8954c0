"""How far the topics have been read: `log.position`, which moves together with what was read."""

from schemas.topics import Offsets
from services.store.pool import Connection


async def read_positions(connection: Connection) -> Offsets:
    """The next offset of each partition of which anything was read."""
    rows = await connection.fetch("select topic, partition, next_offset from log.position")
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
