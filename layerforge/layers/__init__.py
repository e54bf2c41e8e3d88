"""The layers: one file per type, or per family of a few lines each. Defining a class registers it."""
