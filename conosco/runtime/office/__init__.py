"""The office: what the management API needs, answered from the doors. One desk a file."""
