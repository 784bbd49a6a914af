"""Make clips for a network: sliding windows, labelled clips, random views of them."""
