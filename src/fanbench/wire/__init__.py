"""The wire: typed messages, one client, log streams and downloads. Runs on asyncio and on trio."""
