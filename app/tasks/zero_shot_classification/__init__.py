"""Labels that a request brings, by models that say whether one text follows from another."""
