"""MLPerf LoadGen with a session: how fast it is, and what it answers."""
