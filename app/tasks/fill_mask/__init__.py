"""What may stand in place of a mask."""
