"""One stage without a study, on any data and any model."""
