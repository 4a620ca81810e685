"""The study of what the gate does with noise, with an edge of known size, and with planted leaks."""
