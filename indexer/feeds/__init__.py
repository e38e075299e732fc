"""The door through which we tell others: feeds of what happened, and notifications forwarded to GitLab."""
