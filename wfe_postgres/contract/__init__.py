"""The engine's side: models, interfaces and errors. Imports the standard library only."""
