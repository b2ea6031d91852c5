"""Training: fine-tuned cross-encoders and bi-encoders, and the hard negatives they learn from."""
