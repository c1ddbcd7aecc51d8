"""Runs the published SDKs, unmodified, against relays that follow the simulator."""
