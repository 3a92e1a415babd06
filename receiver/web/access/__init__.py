"""Who may ask, and over what: `--web.config.file` and its judgement of each request."""
