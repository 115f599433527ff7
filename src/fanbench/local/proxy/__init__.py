"""The Model Proxy: what the SDK in a run's process talks to. `service` answers, `genai` translates."""
