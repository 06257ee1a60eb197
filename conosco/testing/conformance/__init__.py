"""One suite per door. Subclass it in a test module, give its fixtures an engine, and pytest runs every promise against it."""
