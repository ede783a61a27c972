"""What several test files share: made-up sound, small trees, tiny checkpoints, places, browsers."""
