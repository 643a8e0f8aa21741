"""Where in image files is what should be found: boxes and masks that lie in files of their own."""
