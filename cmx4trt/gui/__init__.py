"""The page: a form made from a script's ``_cm.yaml``, the ``cmr`` line it stands for, its run, and the engines it left."""
