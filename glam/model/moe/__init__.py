"""Mixture of Experts: router, balance losses, dispatchers, experts."""
