"""Templates and clones: databases that perfdata makes from others, and their removal."""
