"""SAM as an optimizer for any torch module: one concern a module. Importing this package imports nothing."""
