"""Devices that speak the native API of ESPHome as rooms."""
