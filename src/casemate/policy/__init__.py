"""What a program may do, as data and as small functions over it: the hardened specification of `do` and the SDK."""
