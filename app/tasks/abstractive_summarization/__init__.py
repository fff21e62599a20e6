"""Summaries that are written anew."""
