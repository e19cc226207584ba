"""The walls: one file per isolation, one interface (base.py), one list (registry.py)."""
