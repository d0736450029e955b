"""Taking connections: `serve` listens, `accept` takes one stream that is already there."""
