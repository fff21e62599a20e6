"""What is common to a protocol; what a task says in it lies in the task's folder."""
