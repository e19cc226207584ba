"""The OCI runtime specification: read and checked (spec.py), lowered to a plan (lower.py, fields/)."""
