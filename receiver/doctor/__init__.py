"""Will it work? Everything that the configuration names is asked, and nothing is changed."""
