"""Mutants of the product, a file each or a close family, with its list `MUTANTS`."""
