"""What authors of engines and extensions test with: a clock that stands still and one conformance suite per door."""
