"""The nouns everybody shares: types, manifest, release, errors. No HTTP, no I/O beyond the files of a model folder."""
