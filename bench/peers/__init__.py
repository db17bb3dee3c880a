"""The fault suite's F1, F6, F7 and F21 against plain Dramatiq and Celery, doing the same sends."""
