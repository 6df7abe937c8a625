"""Images in the form that engines take."""
