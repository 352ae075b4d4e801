"""The worker side of Myelin: a zygote that imports an engine once and forks sessions. Standard library only."""

PROTOCOL = 1
