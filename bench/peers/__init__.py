"""kvflow beside what people would otherwise pick: the same work, on the same server, each by its own documented way.

Each side is a program in a process of its own; a peer's runs in an environment of its own, and none is installed beside
kvflow. A program clocks its work itself and hands back what it got and what it has recorded, so a fast wrong answer is
found out.
"""
