"""Large, realistic PostgreSQL datasets for performance tests, restored in about a second."""
