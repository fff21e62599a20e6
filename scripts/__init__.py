"""The offline half: from labelled data to a published artefact. The only home of torch and transformers."""
