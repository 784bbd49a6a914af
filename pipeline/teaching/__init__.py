"""Teach a model on your own match: a project of marks and answers, features, and learning."""
