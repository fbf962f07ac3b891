"""What a model associates with groups of people: sentences and words of our own, log-probabilities,
and the words and toxicity of texts that it writes."""
