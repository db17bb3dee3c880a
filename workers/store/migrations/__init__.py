"""Versions of the schema, brought up by Alembic: only ever added to, one file each."""
