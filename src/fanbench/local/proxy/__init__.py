"""The requests and answers of the Model Proxy's two APIs. `routes/proxy` answers them."""
