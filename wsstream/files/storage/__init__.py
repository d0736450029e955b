"""Storage of files that arrive: nothing is lost, and nothing half-written is seen under its name."""
