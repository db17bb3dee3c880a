"""Faults, a file each, with its list `FAULTS`."""
