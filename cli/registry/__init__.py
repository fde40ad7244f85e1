"""Who answers for which version of a model: signing, verifying, comparing, promoting, and the record of it."""
