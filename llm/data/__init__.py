"""Problems, the schemas that they come in, tokenizer and rewards."""
