"""An application whose first tables were made by hand, long before its first migration."""
