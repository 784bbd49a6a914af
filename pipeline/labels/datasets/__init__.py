"""Label formats of public datasets and their benchmarks, one file each."""
