"""Results on disk, by what determines them: whole or not there, checked when read, shared between processes."""
