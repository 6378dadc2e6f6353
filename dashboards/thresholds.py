"""Every number that alerts and dashboards compare with: the one place to tune them. Then run `python -m dashboards.build`."""

THRESHOLDS: dict[str, float] = {
    # Zombies
    "zombies": 5,  # that stay, and as many more within an hour
    "zombies_of_pid_limit": 0.5,  # of the container's
    "zombies_of_node": 0.25,  # of the node's PID table
    # PIDs
    "pids_near": 0.8,  # of a container's limit
    "pids_full": 0.95,
    "node_pids_near": 0.8,
    "forecast_seconds": 4 * 3600,  # from now until the table or the limit is full
    "forecast_from": 0.5,  # a forecast counts from this part of a node's table on
    # Memory
    "headroom": 0.05,  # left of the nearest limit
    "headroom_shown": 0.25,  # who has more of it left is on no panel of the fleet
    "oom_kills_repeated": 3,  # within an hour
    "memory_stalled": 0.1,  # of the time
    # Deaths
    "crash_loop": 3,  # of one cause within 20 minutes
    # The rest of a container's life
    "throttled": 0.25,  # of its periods
    "created_seconds": 3600,
    # The node
    "dying_cgroups": 5000,
    # The agent
    "agent_cores": 0.1,
    "agent_bytes": 200 * 1024 * 1024,
}
