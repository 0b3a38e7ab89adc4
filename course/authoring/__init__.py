"""For authors and teachers: lessons are built here. Only the command line imports this."""
