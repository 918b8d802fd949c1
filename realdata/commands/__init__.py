"""The commands of ``python -m realdata``: each module parses its flags, calls the packages beside it, prints."""
