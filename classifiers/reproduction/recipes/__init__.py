"""Published systems, one small file each: what was claimed, what was stated, what was left open; see `recipe`."""
