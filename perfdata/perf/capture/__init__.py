"""What a scenario sends: statements, rows and plans, counted as they are sent."""
