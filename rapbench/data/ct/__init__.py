"""Computed tomography: cubes around candidates for lung nodules, of real scans and of phantoms."""
