"""Many instances and one store in one thread, interleaved at every store operation by a seed; a checker looks on."""
