"""A trained model becomes a published version: export, optimize, verify, quantize, publish."""
