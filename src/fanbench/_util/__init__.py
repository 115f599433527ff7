"""Helpers for all packages: files, locks, concurrency, polling, text, debug messages."""
