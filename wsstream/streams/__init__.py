"""What users hold: the streams of an open WebSocket, and the driver that moves their bytes."""
