"""Validator: hears of candidates and champions, decides at the gates, says validated or rejected."""
