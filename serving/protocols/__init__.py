"""Thin protocols: each module turns its wire format into calls of the data plane and back."""
