"""Physics of many slots at once: in this thread, in several, or in several processes."""
