"""What tasks that write share offline: pairs of source and target, metrics of written texts, what the report says of them."""
