"""What comes in by HTTP: requests, pages, the API, and who may what."""
