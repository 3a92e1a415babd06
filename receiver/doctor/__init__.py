"""Will it work, from here and now? What the configuration names is asked, its rules are read."""
