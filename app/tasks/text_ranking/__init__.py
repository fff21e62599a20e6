"""How well documents answer a query."""
