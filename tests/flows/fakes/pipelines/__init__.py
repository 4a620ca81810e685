"""Stand-ins for the pipelines, seen by flows that run in a stack under test."""
