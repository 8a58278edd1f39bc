"""Measurements, beside the official servers in the same run."""
