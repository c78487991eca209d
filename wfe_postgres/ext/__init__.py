"""Extensions of web frameworks; each needs the framework's own packages."""
