"""The OCI life cycle: one file per verb over container.py (what a container is) and store.py (where that is kept)."""
