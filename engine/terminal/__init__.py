"""What a person sees: hits and tables as text, JSON, CSV or TREC, progress bars, the doctor, the interactive shell.

All of it renders to `str` or talks to a terminal; `cli.py` decides when.
"""
