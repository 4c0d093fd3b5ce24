"""The same model faster: engines that know nothing of how they are asked."""
