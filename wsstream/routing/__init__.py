"""Several handlers in one server, chosen by the path of the request."""
