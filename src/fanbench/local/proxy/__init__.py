"""The Model Proxy, which serves models to the SDK. `service` answers, `genai` translates."""
