"""May we? One question per file; each answers Allow, Wait or Deny, with a reason and a time."""
