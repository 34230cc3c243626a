"""Keys for programs that act for a user: made, rotated and revoked by the user, taken instead of a token."""
