"""The API: typed messages, transport, retries, log streams and downloads. Runs on asyncio and on trio."""
