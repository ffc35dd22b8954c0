"""Measurements, run by command and never timed by the suite."""
