"""The calls of the wire, by "Service/Method": each a function of the services and one message."""
