"""Hooper beside others: developers' tools whose figures the documents quote; not in the wheel."""
