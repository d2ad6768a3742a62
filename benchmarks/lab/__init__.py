"""What benchmarks share: runs side by side, processes, studies that can be stopped, statistics, tables, and their place."""
