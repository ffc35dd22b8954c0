"""The HTTP door: events as JSON over HTTP, checked and brought to their topics."""
