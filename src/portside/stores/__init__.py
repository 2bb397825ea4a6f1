"""The state: where content and what is known of it are kept."""
