"""How the results of commands are shown; imported only once a command runs."""
