"""What test modules share: problems, oracles, stand-ins. A test module imports nothing from another test module."""
