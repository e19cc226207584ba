"""The command line: main.py dispatches; commands/<verb>.py each do one verb."""
