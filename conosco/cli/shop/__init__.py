"""The demo's shop: an invented European retailer whose every event, dirty as real ones are, comes with its truth.

A seed, a size and a last day give the same bytes, on any machine. Nobody in it exists.
"""
