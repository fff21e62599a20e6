"""From labelled data to a trained model: load, fine-tune, evaluate."""
