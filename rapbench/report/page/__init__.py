"""The self-contained page of a run, report.html."""
