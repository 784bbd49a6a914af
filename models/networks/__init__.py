"""The network architectures, each split into a trunk of named stages and a head."""
