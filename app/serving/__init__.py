"""Joins tasks, batching and runtime into live deployments."""
