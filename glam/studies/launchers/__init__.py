"""Where the cells of a study run: processes of this machine, Slurm jobs, Ray tasks."""
