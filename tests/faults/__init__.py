"""Long runs in which workers and servers die, and what they must leave behind."""
