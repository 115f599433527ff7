"""What every package needs: files, concurrency, polling, debug logs."""
