"""How a process of ours is called: server, deadline, health, error mapping, drain. Not what it answers."""
