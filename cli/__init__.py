"""The `modelbus` command: one module a group of commands."""
