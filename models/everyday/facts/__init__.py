"""A few hundred facts of the world, and how they are asked."""
