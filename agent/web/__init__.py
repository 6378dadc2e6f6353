"""The HTTP side: routes and the status page."""
