"""What shows that the service survives what the world does to it: each module a command or a part of one."""
