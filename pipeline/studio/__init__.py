"""The local server and page on which a person teaches a project."""
