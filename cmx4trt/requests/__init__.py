"""What a user may ask for: one declaration for each option, and the validated requests made from them."""
