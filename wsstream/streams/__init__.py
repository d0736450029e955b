"""What users hold: the streams of an open WebSocket."""
