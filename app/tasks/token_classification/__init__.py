"""Labels for the tokens of a text: named entities, parts of speech."""
