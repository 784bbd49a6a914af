"""Fine-tune a network on labelled examples."""
