"""The ways of doing the same work, behind one small interface."""
