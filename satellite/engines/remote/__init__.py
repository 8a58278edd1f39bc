"""Stages on other machines, asked by the Wyoming protocol."""
