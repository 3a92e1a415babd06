"""Pictures of the boards for the docs, drawn with Grafana's own components."""
