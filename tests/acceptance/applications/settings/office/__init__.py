"""An application whose settings come from the environment and a .env file."""
