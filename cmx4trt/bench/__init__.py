"""MLPerf LoadGen over a session: how fast is it, and what did it answer."""
