"""May we? One question a file, one answer each: Allow, Wait or Deny, with a reason and a time."""
