"""Shows results: on the terminal, as Markdown and HTML, and in files."""
