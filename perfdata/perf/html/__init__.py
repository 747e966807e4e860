"""A run's results as one HTML file that fetches nothing and runs nothing."""
