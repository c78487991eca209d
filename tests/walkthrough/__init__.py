"""What README, docs/ and the examples tell a newcomer to type, typed where nothing is prepared for it."""
