"""Many trainings: jobs, who does them, and how long they take."""
