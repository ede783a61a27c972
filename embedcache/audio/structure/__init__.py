"""The structure of audio files: where the sound lies, what the header says of it, and what follows it."""
