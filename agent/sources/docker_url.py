"""Where a Docker daemon is asked if nobody says otherwise; apart from the source, which is loaded where there is one to ask."""

DEFAULT_URL = "unix:///var/run/docker.sock"
