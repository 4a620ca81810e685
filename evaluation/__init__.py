"""Splits, metrics, overfitting statistics, gates and the evaluation report."""
