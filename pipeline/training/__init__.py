"""Fine-tuning: examples in, an adapted network out."""
