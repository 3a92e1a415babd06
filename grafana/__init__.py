"""What the dashboards show, as code. `python -m grafana` writes them to grafana/dashboards/."""
