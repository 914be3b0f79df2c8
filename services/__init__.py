"""Six services, the same rooms in each; they never import each other, they meet in events."""
