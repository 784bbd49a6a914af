"""Label formats of annotation and analysis programs, one file each."""
