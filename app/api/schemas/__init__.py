"""Request and response models, with the examples that the docs page shows."""
