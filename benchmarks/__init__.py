"""Speed and memory, against what users would pick instead and against the machine's limit."""
