"""What every other package may use: task layout, random streams, expressions, validation."""
