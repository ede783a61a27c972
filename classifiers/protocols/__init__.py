"""Protocols: how a task is split into training and test clips, and what the two share."""
