"""The weather at New York City's airports in 2013: how warm will it be in six hours? A regression."""
