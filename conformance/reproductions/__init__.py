"""What SDKs do wrong whoever serves them (see README.md)."""
