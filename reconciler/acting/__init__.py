"""What the handlers of jobs work with: the job, its lease, and what may end it."""
