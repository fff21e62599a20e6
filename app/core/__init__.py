"""The nouns everybody shares: types, manifest, errors. No HTTP, no I/O beyond a manifest file."""
