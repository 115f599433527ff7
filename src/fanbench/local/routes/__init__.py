"""The handlers of the protocol's calls: each is a function of the services and one message."""
