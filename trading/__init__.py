"""Costs and the backtest of a signal."""
