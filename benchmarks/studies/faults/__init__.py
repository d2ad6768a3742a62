"""What a run promises under kills, full disks, damaged files and impatient people."""
