"""What experts specialise in: statistics of which token went to which expert."""
