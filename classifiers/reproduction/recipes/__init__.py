"""Published systems, one TOML file for each: claims, stated settings and open settings. See `recipe` for the format."""
