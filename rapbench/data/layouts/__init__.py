"""How images and labels lie on disk: folders, archives, parquet, label files, ImageNet's development kit."""
