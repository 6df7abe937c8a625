"""The web UI: a form made from a script's ``_cm.yaml``, the equivalent ``cmr`` command, its run, and the engines it left."""
