"""The pure part of api: argument validation and views."""
