"""`satellite rooms adopt` and `forget`: devices become rooms of the configuration, and leave it again."""
