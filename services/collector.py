"""Python's collector of cycles in processes that make many objects and hardly a cycle."""

import gc

OBJECTS = 50_000


def collect_seldom(objects: int = OBJECTS) -> None:
    """Lets the collector run only when so many objects were made, instead of the usual 700: looking for
    cycles took a tenth of the time and more. What lives already is not looked at again."""
    gc.freeze()
    gc.set_threshold(objects)
