"""What is shown and what is alerted on: sources of the dashboards and of alerts.yaml. `python -m dashboards.build` makes both."""
