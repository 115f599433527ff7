"""One module per command: its help, its options, and the call that does the work."""
