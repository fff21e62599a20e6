"""Versions of one name: leased, tried beside the main one as a canary or a shadow, and recovered."""
