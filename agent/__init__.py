"""Coroner, the process: everything that waits, listens and stores. Start reading at app.py."""

__version__ = "0.1.0"
