"""Models that others build, as the zoo gives them."""
