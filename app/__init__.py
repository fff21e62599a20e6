"""The online service: loads published artefacts and answers requests over HTTP."""
